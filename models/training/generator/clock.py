"""A learning-rate schedule in wall-clock time: the last weights are annealed when the time is up,
whatever else the machine was doing meanwhile."""

import math
import time


class WallClockSchedule:
    """Linear warm-up, a constant stretch, then a decay to zero at the end of the time."""

    def __init__(self, minutes: float, warm_up: float, hold: float = 0.0):
        self.start = time.monotonic()
        self.total_s = minutes * 60.0
        self.warm_up = warm_up
        self.hold = hold

    def elapsed_s(self) -> float:
        return time.monotonic() - self.start

    def progress(self) -> float:
        return min(self.elapsed_s() / self.total_s, 1.0)

    def finished(self) -> bool:
        return self.elapsed_s() >= self.total_s

    def factor(self) -> float:
        """The share of the peak learning rate to use now."""
        progress = self.progress()
        if progress < self.warm_up:
            return max(progress / self.warm_up, 0.01)
        start = max(self.warm_up, self.hold)
        if progress < start:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (progress - start) / (1.0 - start)))
