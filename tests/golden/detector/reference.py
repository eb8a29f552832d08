"""The trace features by an independent implementation in NumPy, straight from their definitions.

`features(rgb, predict, config)` gives the chosen places and one row of named numbers for each.
Only the definitions are shared with the service: patches, inversion and statistics are written anew.
"""

import numpy as np

LEVELS = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3)
FLOOR = 1e-12


def log(value):
    return float(np.log(max(float(value), FLOOR)))


# --- patches ----------------------------------------------------------------------------------------------------------


def starts(length, side):
    free = length - side
    gaps = -(-free // (side * 3 // 4))
    if gaps == 0:
        return [0]
    return [free * i // gaps // 8 * 8 for i in range(gaps + 1)]


def choose(rgb, side, flattest, richest, spread):
    """Places (x, y, selection) by rising texture of the green channel."""
    height, width = rgb.shape[:2]
    if height < side or width < side:
        return []
    green = rgb[:, :, 1].astype(int)
    right = np.abs(np.diff(green, axis=1, append=green[:, -1:]))
    below = np.abs(np.diff(green, axis=0, append=green[-1:, :]))
    step = (right + below) / 2
    clipped = (green == 0) | (green == 255)
    ranked = []
    for y in starts(height, side):
        for x in starts(width, side):
            here = np.s_[y : y + side, x : x + side]
            if clipped[here].mean() <= 0.5 and step[here].mean() >= 0.06:
                ranked.append((step[here].mean(), y, x))
    ranked.sort()
    count = len(ranked)
    low = min(flattest, count)
    high = min(richest, count - low)
    between = count - low - high
    middle = min(spread, between)
    chosen = [(i, "flattest") for i in range(low)]
    chosen += [(low + (2 * i + 1) * between // (2 * middle), "spread") for i in range(middle)]
    chosen += [(i, "richest") for i in range(count - high, count)]
    return [(ranked[i][2], ranked[i][1], name) for i, name in chosen]


# --- statistics -------------------------------------------------------------------------------------------------------


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return 0.0 if scale < FLOOR else float((a * b).sum() / scale)


def shifted(map_, dy, dx):
    height, width = map_.shape
    first = map_[: height - dy, max(-dx, 0) : width - max(dx, 0)]
    second = map_[dy:, max(dx, 0) : width - max(-dx, 0)]
    return correlation(first, second)


def phase_contrast(map_, period, axis):
    energy = [np.square(map_.take(range(k, map_.shape[axis], period), axis)).mean() for k in range(period)]
    return log(max(energy) + FLOOR) - log(np.mean(energy) + FLOOR)


def luma(patch):
    return 0.299 * patch[0] + 0.587 * patch[1] + 0.114 * patch[2]


def high_pass(map_):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    windows = np.lib.stride_tricks.sliding_window_view(map_, (3, 3))
    return map_[1:-1, 1:-1] - (windows * kernel).sum((2, 3))


def spectrum(map_):
    """Eight radial bins, then the peaks at 1/2, 1/4 and 1/8 on the axes and on the diagonals."""
    side = len(map_)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(side) + 0.5) / side)
    power = np.abs(np.fft.fft2((map_ - map_.mean()) * np.outer(window, window))) ** 2
    frequency = np.abs(np.fft.fftfreq(side))
    radius = np.hypot(frequency[:, None], frequency[None, :])
    ring = np.minimum((radius * 16).astype(int), 7)
    out = [log(power[ring == k].mean()) - log(power.mean()) for k in range(8)]

    def peak(v, u):
        around = power.take(range(v - 3, v + 4), 0, mode="wrap").take(range(u - 3, u + 4), 1, mode="wrap")
        inner = around[2:5, 2:5]
        return log(inner.mean()) - log((around.sum() - inner.sum()) / 40)

    for diagonal in (False, True):
        for divisor in (2, 4, 8):
            k = side // divisor
            places = [(k, k), (k, side - k)] if diagonal else [(0, k), (k, 0)]
            out.append(float(np.mean([peak(v, u) for v, u in places])))
    return out


def picture_row(patch):
    y = luma(patch)
    right, below = np.diff(y, axis=1), np.diff(y, axis=0)
    steps = np.concatenate([np.abs(right).ravel(), np.abs(below).ravel()])
    high = high_pass(y)
    chroma = sum(np.square(high_pass(patch[c] - y)).mean() for c in (0, 2))
    return [
        log(steps.mean()), float(y.mean()), log(y.std()), log(np.sqrt(np.square(high).mean())),
        log(chroma) - log(np.square(high).mean()), shifted(high, 0, 2), shifted(high, 2, 0),
        phase_contrast(np.sqrt(np.abs(right)), 8, 1), phase_contrast(np.sqrt(np.abs(below)), 8, 0),
        float((steps < 0.25 / 127.5).mean()), float((np.abs(patch) > 0.999).mean()), *spectrum(y),
    ]


def step_row(patch, noise_pred):
    """Statistics of one level's predicted noise, some of them against the picture."""
    y = luma(patch)
    square = np.square(noise_pred).mean()
    rms = np.sqrt(square)
    mean = noise_pred.mean(0)
    gradient = np.abs(np.diff(y, axis=1))[:-1] + np.abs(np.diff(y, axis=0))[:, :-1]
    size = np.abs(noise_pred).mean(0)
    phases = [log(np.square(mean[i::2, j::2]).mean()) for i in (0, 1) for j in (0, 1)]
    out = [log(rms), float(np.abs(noise_pred).mean() / max(rms, 1e-6)), log((noise_pred**4).mean()) - 2 * log(square)]
    out += [shifted(mean, dy, dx) for dy, dx in [(0, 1), (0, 2), (1, 0), (2, 0), (1, 1), (1, -1)]]
    out += [correlation(noise_pred[a], noise_pred[b]) for a, b in [(0, 1), (0, 2), (1, 2)]]
    out += [correlation(size, y), correlation(size[:-1, :-1], gradient)]
    out += [correlation(luma(noise_pred)[1:-1, 1:-1], high_pass(y))]
    out += [max(phases) - min(phases), abs(phases[0] + phases[3] - phases[1] - phases[2]) / 2]
    out += [phase_contrast(mean, 8, 0), phase_contrast(mean, 8, 1), *spectrum(mean)]
    return out


def step_pair(sample, noise_pred, following, level, next_level):
    """Cosine to the next level's prediction, and the step error: up one level and down again."""
    scale, next_scale = np.sqrt(1 - level**2), np.sqrt(1 - next_level**2)
    up = next_scale * (sample - level * noise_pred) / scale + next_level * noise_pred
    down = scale * (up - next_level * following) / next_scale + level * following
    cosine = (noise_pred * following).sum() / np.sqrt((noise_pred**2).sum() * (following**2).sum())
    return [float(cosine), log(np.sqrt(np.square(down - sample).mean()))]


# --- the trace --------------------------------------------------------------------------------------------------------


def invert(batch, predict, levels):
    """DDIM inversion over rising noise levels, in float32 as the service does it."""
    samples, noise_preds = [], []
    for index, level in enumerate(levels):
        noise_pred = predict(batch, level)
        samples.append(batch)
        noise_preds.append(noise_pred)
        if index + 1 < len(levels):
            following = levels[index + 1]
            x0 = (batch - np.float32(level) * noise_pred) / np.float32(np.sqrt(1 - level**2))
            batch = np.float32(np.sqrt(1 - following**2)) * x0 + np.float32(following) * noise_pred
    return samples, noise_preds


def features(rgb, predict, flattest=2, richest=2, spread=2, side=128, border=8, levels=LEVELS):
    """Places and rows of the picture `rgb` (height x width x 3, uint8)."""
    places = choose(rgb, side, flattest, richest, spread)
    if not places:
        return [], []
    cuts = [rgb[y : y + side, x : x + side].transpose(2, 0, 1) for x, y, _ in places]
    samples, noise_preds = invert(np.stack(cuts).astype(np.float32) / np.float32(127.5) - 1, predict, levels)
    inside = np.s_[:, border:-border, border:-border]
    rows = []
    for index in range(len(places)):
        path = [sample[index][inside].astype(float) for sample in samples]
        preds = [noise_pred[index][inside].astype(float) for noise_pred in noise_preds]
        rms = lambda a: np.sqrt(np.square(a).mean())
        length = sum(rms(b - a) for a, b in zip(path, path[1:]))
        row = picture_row(path[0]) + [rms(path[-1] - path[0]) / length]
        for step, level in enumerate(levels):
            row += step_row(path[0], preds[step])
            if step + 1 < len(levels):
                row += step_pair(path[step], preds[step], preds[step + 1], level, levels[step + 1])
        rows.append(row)
    return places, rows

