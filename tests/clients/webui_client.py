"""Calls the service with webuiapi, unmodified, and says what came back as JSON.

Usage: webui_client.py PORT KEY. Needs nothing beside the pinned packages.
"""

import json
import sys
import threading

from PIL import Image, ImageDraw
from webuiapi import WebUIApi

PROMPT = "a (red:1.2) heart"


def text_to_image(api):
    result = api.txt2img(
        prompt=PROMPT, negative_prompt="blue", seed=7, steps=4, width=64, height=64,
        cfg_scale=3.5, batch_size=2, sampler_name="DPM++ 2M", scheduler="karras",
    )
    return {
        "sizes": [image.size for image in result.images],
        "info": result.info,
        "parameters": result.parameters,
        "texts": [image.text["parameters"] for image in result.images],
        "bundles": [item["bundle"] for item in result.json["provenance"]],
        "png_info": api.png_info(result.image).info,
    }


def seed_as_torch(api):
    """The noise source that A1111 calls CPU goes into the signed entry."""
    result = api.txt2img(
        prompt="a red heart", seed=7, steps=2, width=64, height=64, sampler_name="Euler",
        override_settings={"randn_source": "CPU"},
    )
    return result.json["provenance"][0]["entry"]["statement"]["body"]["noise_source"]


def outcome(call):
    """What a call gave: the signed task with `info`, or status and problem."""
    try:
        result = call()
    except RuntimeError as error:
        status, text = error.args
        return {"status": status, **json.loads(text)}
    if not result.json["provenance"]:
        return {"images": len(result.images), "info": result.info}
    body = result.json["provenance"][0]["entry"]["statement"]["body"]
    return {
        "task": body["task"], "strength": body["strength"], "sources": len(body["sources"]),
        "settings": body["settings"], "info": result.info, "size": result.image.size,
        "text": result.image.text["parameters"], "image": result.image, "images": len(result.images),
    }


def image_to_image(api):
    picture = Image.new("RGB", (128, 96), "white")
    ImageDraw.Draw(picture).ellipse((32, 16, 96, 80), fill="red")
    mask = Image.new("L", (128, 96), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 127, 47), fill=255)
    values = dict(
        images=[picture], prompt="a red heart", seed=7, steps=4, width=64, height=64,
        sampler_name="DDIM", cfg_scale=3.5,
    )
    # What the client sends when nothing is said: soft edge, colours round the mask, only the part under it.
    masked = outcome(lambda: api.img2img(mask_image=mask, **values))
    below = (0, 64, 128, 96)
    masked["kept"] = masked["image"].crop(below).tobytes() == picture.crop(below).tobytes()
    masked["painted"] = masked["image"].tobytes() != picture.tobytes()
    found = {
        "whole": outcome(lambda: api.img2img(denoising_strength=0.5, **values)),
        "masked": masked,
        "all_of_it": outcome(lambda: api.img2img(
            mask_image=mask, inpaint_full_res=False, inpainting_fill=2, mask_blur=0, **values)),
        "blank": outcome(lambda: api.img2img(mask_image=Image.new("L", (128, 96), 0), **values)),
        "unknown_fill": outcome(lambda: api.img2img(mask_image=mask, inpainting_fill=4, **values)),
        "restore": outcome(lambda: api.img2img(restore_faces=True, **values)),
        "none": outcome(lambda: api.img2img(**{**values, "images": []})),
    }
    for value in found.values():
        value.pop("image", None)
    return found


def interrupted(api, steps, is_far_enough):
    """Starts a long generation, waits until its progress shows, and stops it."""
    found = {}

    def generate():
        found["outcome"] = outcome(lambda: api.txt2img(
            prompt="a red heart", steps=steps, width=64, height=64, sampler_name="DDIM", n_iter=8))
        found["outcome"].pop("image", None)

    thread = threading.Thread(target=generate)
    thread.start()
    seen = api.get_progress()
    while thread.is_alive() and not is_far_enough(seen):
        seen = api.get_progress()
    found["seen"] = {"progress": seen["progress"], **seen["state"]}
    found["interrupt"] = api.interrupt()
    thread.join()
    found["after"] = api.get_progress()
    return found


def catalogue(api):
    models = api.get_sd_models()
    api.util_set_model(models[0]["model_name"])
    refused = api.set_options({"CLIP_stop_at_last_layers": 2})
    return {
        "models": models,
        "current": api.util_get_current_model(),
        "samplers": api.util_get_sampler_names(),
        "schedulers": api.util_get_scheduler_names(),
        "refused": refused["detail"],
        "scripts": api.get_scripts(),
    }


def main():
    port, key = sys.argv[1:]
    api = WebUIApi(host="127.0.0.1", port=int(port), username="studio", password=key)
    stranger = WebUIApi(host="127.0.0.1", port=int(port), username="studio", password="rk_unknown")
    found = {
        "catalogue": catalogue(api),
        "txt2img": text_to_image(api),
        "noise_source": seed_as_torch(api),
        "img2img": image_to_image(api),
        "interrupted": interrupted(api, 200, lambda seen: seen["state"]["sampling_step"] >= 1),
        # Four images at once at most: beyond the half some are finished.
        "interrupted_late": interrupted(api, 40, lambda seen: seen["progress"] > 0.55),
        "sampler": outcome(lambda: api.txt2img(prompt="a", sampler_name="DPM fast")),
        "key": outcome(lambda: stranger.txt2img(prompt="a")),
    }
    # webuiapi prints for people on standard output: the last line is the report.
    print()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
