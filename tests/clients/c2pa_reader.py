"""Reads the Content Credentials of files with c2pa-python, unmodified, and says what it found as JSON.

Usage: c2pa_reader.py ROOT.pem FILE... Needs nothing beside the pinned packages, and no network.
"""

import json
import mimetypes
import sys

import c2pa

mimetypes.add_type("image/webp", ".webp")


def context(anchors):
    trust = {"trust_anchors": anchors} if anchors else {}
    return c2pa.Context.from_dict({"trust": trust, "verify": {"remote_manifest_fetch": False}})


def read(path, anchors):
    """The state under these anchors, with the codes of what failed, and the active manifest."""
    media_type, _ = mimetypes.guess_type(path)
    with open(path, "rb") as file:
        with c2pa.Reader(media_type, file, context=context(anchors)) as reader:
            results = reader.get_validation_results()["activeManifest"]
            return {
                "state": reader.get_validation_state(),
                "failures": [status["code"] for status in results["failure"]],
                "successes": [status["code"] for status in results["success"]],
                "manifest": reader.get_active_manifest(),
            }


def main(root, paths):
    with open(root, encoding="ascii") as file:
        anchors = file.read()
    report = []
    for path in paths:
        trusted, plain = read(path, anchors), read(path, None)
        manifest = trusted["manifest"]
        assertions = {item["label"]: item["data"] for item in manifest["assertions"]}
        report.append({
            "trusted": trusted["state"],
            "successes": trusted["successes"],
            "plain": plain["state"],
            "plain_failures": plain["failures"],
            "label": manifest["label"],
            "claim_version": manifest["claim_version"],
            "generator": manifest["claim_generator_info"],
            "assertions": assertions,
            "ingredients": [
                {"relationship": item["relationship"], "manifest": item.get("active_manifest")}
                for item in manifest.get("ingredients", [])
            ],
        })
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
