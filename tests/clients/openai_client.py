"""Calls the service with the official OpenAI client, unmodified, and says what came back as JSON.

Usage: openai_client.py BASE_URL KEY. Needs nothing beside the pinned packages.
"""

import base64
import io
import json
import sys

from openai import APIStatusError, NotFoundError, OpenAI
from PIL import Image, ImageDraw

PROMPT = "a red heart"
SETTINGS = {"seed": 7, "num_inference_steps": 4}


def pixels(data):
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return ("picture.png", file.getvalue(), "image/png")


def models(client):
    listed = client.models.list().data
    model = client.models.retrieve(listed[0].id)
    return {"listed": [model.id for model in listed], "digest": model.model_extra["digest"]}


def generate(client, model):
    """One image twice, the second among two, and as JPEG."""
    first = client.images.generate(
        prompt=PROMPT, model=model, n=1, size="64x64", response_format="b64_json",
        extra_body={**SETTINGS, "negative_prompt": "blue", "guidance_scale": 3.5},
    )
    data = base64.b64decode(first.data[0].b64_json)
    again = client.images.generate(
        prompt=PROMPT, n=2,
        extra_body={**SETTINGS, "seed": 6, "negative_prompt": "blue", "guidance_scale": 3.5},
    )
    second = base64.b64decode(again.data[1].b64_json)
    assert first.created > 0 and first.size == "64x64" and first.output_format == "png"
    assert pixels(data) == pixels(second), "the same seed gives the same pixels"
    jpeg = client.images.generate(
        prompt=PROMPT, output_format="jpeg", output_compression=80, extra_body=SETTINGS
    )
    image = Image.open(io.BytesIO(base64.b64decode(jpeg.data[0].b64_json)))
    webp = client.images.generate(prompt=PROMPT, output_format="webp", extra_body=SETTINGS)
    webp = Image.open(io.BytesIO(base64.b64decode(webp.data[0].b64_json)))
    return {
        "parameters": Image.open(io.BytesIO(data)).text["parameters"],
        "formats": [jpeg.output_format, image.format, webp.format],
        "bundles": [item.model_extra["provenance"]["bundle"] for item in first.data + jpeg.data],
        "files": [item.b64_json for item in first.data + jpeg.data],
    }


def silent(client):
    answer = client.images.generate(
        prompt=PROMPT, extra_body={**SETTINGS, "embed_parameters": False}
    )
    data = base64.b64decode(answer.data[0].b64_json)
    return sorted(Image.open(io.BytesIO(data)).text)


def by_url(client):
    """The address works with the key that asked for the image."""
    answer = client.images.generate(prompt=PROMPT, response_format="url", extra_body=SETTINGS)
    url = answer.data[0].url
    assert answer.data[0].b64_json is None
    response = client._client.get(url, headers={"Authorization": f"Bearer {client.api_key}"})
    response.raise_for_status()
    return {"status": response.status_code, "format": Image.open(io.BytesIO(response.content)).format}


def streamed(client):
    events = list(client.images.generate(
        prompt=PROMPT, stream=True, partial_images=2,
        extra_body={"seed": 7, "num_inference_steps": 8},
    ))
    sizes = [Image.open(io.BytesIO(base64.b64decode(event.b64_json))).size for event in events]
    partial = [event.partial_image_index for event in events[:-1]]
    return {
        "types": [event.type for event in events],
        "sizes": sizes,
        "partial": partial,
        "tokens": events[-1].usage.total_tokens,
        "bundle": events[-1].model_extra["provenance"]["bundle"],
    }


def outcome(call):
    """What a call gave: the task of the signed entry, or the problem."""
    try:
        answer = call()
    except APIStatusError as error:
        return {"status": error.status_code, "code": error.code, "message": error.message}
    item = answer.data[0]
    body = item.model_extra["provenance"]["entry"]["statement"]["body"]
    return {
        "task": body["task"], "strength": body["strength"], "sources": len(body["sources"]),
        "pixels": base64.b64encode(pixels(base64.b64decode(item.b64_json))).decode(),
    }


def edits(client):
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((16, 16, 48, 48), fill="red")
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    ImageDraw.Draw(mask).rectangle((0, 0, 63, 31), fill=(0, 0, 0, 0))
    opaque = png(Image.new("RGB", (64, 64), "black"))
    small = png(Image.new("RGBA", (32, 32), (0, 0, 0, 0)))
    edit = lambda **values: client.images.edit(image=png(picture), prompt=PROMPT, **values)
    return {
        "picture": base64.b64encode(picture.tobytes()).decode(),
        "whole": outcome(lambda: edit(extra_body={**SETTINGS, "strength": 0.5})),
        "masked": outcome(lambda: edit(mask=png(mask), extra_body=SETTINGS)),
        "opaque_mask": outcome(lambda: edit(mask=opaque, extra_body=SETTINGS)),
        "small_mask": outcome(lambda: edit(mask=small, extra_body=SETTINGS)),
        "two_images": outcome(lambda: client.images.edit(
            image=[png(picture), png(picture)], prompt=PROMPT)),
        "no_picture": outcome(lambda: client.images.edit(
            image=("picture.png", b"\x89PNG\r\n\x1a\nbroken", "image/png"), prompt=PROMPT)),
        "variation": outcome(lambda: client.images.create_variation(
            image=png(picture), extra_body=SETTINGS)),
        "streamed": stream_of_edit(client, png(picture)),
    }


def stream_of_edit(client, picture):
    try:
        events = client.images.edit(
            image=picture, prompt=PROMPT, stream=True, partial_images=1, extra_body=SETTINGS)
        return [event.type for event in events]
    except APIStatusError as error:
        return {"status": error.status_code, "code": error.code}


def refusals(client, base_url):
    stranger = OpenAI(base_url=base_url, api_key="rk_unknown", max_retries=0)
    generate = client.images.generate
    refused = {
        "size": outcome(lambda: generate(prompt=PROMPT, size="63x63")),
        "quality": outcome(lambda: generate(prompt=PROMPT, quality="high")),
        "prompt": outcome(lambda: generate(prompt="")),
        "model": outcome(lambda: generate(prompt=PROMPT, model="dall-e-3")),
        "key": outcome(lambda: stranger.images.generate(prompt=PROMPT)),
    }
    try:
        client.images.generate(prompt=PROMPT, n=1000)
    except APIStatusError as error:
        refused["param"] = [error.param, error.type, error.body["message"]]
    try:
        client.models.retrieve("dall-e-3")
    except NotFoundError as error:
        refused["unknown_model"] = error.code
    return refused


def main():
    base_url, key = sys.argv[1:]
    client = OpenAI(base_url=base_url, api_key=key, max_retries=0)
    found = models(client)
    print(json.dumps({
        "models": found,
        "generate": generate(client, found["listed"][0]),
        "silent": silent(client),
        "url": by_url(client),
        "stream": streamed(client),
        "edits": edits(client),
        "refusals": refusals(client, base_url),
    }))


if __name__ == "__main__":
    main()
