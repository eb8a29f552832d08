"""Families of generators by the names that the manifest gives them. First match wins."""

import re

FAMILIES = (
    ("FLUX.2", r"flux\.?-?2"), ("Chroma", r"chroma"), ("FLUX.1", r"flux|kontext|^dev_|controlnet_dev|krea-dev"),
    ("Qwen-Image", r"qwen"), ("Z-Image", r"z[-_]?image"), ("HiDream", r"hidream"), ("Sana", r"sana"),
    ("PixArt", r"pixart"), ("Hunyuan", r"hunyuan|hy-img"), ("Stable Diffusion 3", r"sd3|sd35|stable-diffusion-3"),
    ("Würstchen, Cascade", r"cascade|wuerstchen"), ("Krea 2", r"krea-?2"), ("ERNIE-Image", r"ernie"),
    ("Ideogram 4", r"ideogram"), ("Wan, Cosmos, ChronoEdit", r"wan|cosmos|chrono"), ("AuraFlow", r"aura|pony-v7"),
    ("Playground", r"playground"), ("SDXL", r"xl|sdxl|noob|tempest|pony|koala|anima"), ("F-Lite, FIBO", r"f-lite|fibo"),
    ("Gemini", r"gemini"), ("SD 1.x fine-tunes", r"deliberate|dreamshaper|instaflow"),
    ("Stable Diffusion 2", r"stable-diffusion-2"),
    ("Stable Diffusion 1.x", r"stable diffusion 1|v1-5|sd15|^f16$|^f32$|^q\d|img2img_output|lovely cat"),
    ("Boogu", r"boogu"), ("LongCat", r"longcat"),
)


def family(generator: str) -> str:
    name = generator.lower()
    for title, pattern in FAMILIES:
        if re.search(pattern, name):
            return title
    return "other"
