"""Reads an export in columns with DuckDB and compares it, row by row, with the same search as lines of JSON."""

import json
import sys

import duckdb

DIGESTS = ("prompt_commitment", "upload_commitment")


def expected(line):
    """The cells that an entry should have, from its line of JSON alone."""
    statement = line["statement"]
    body = statement["body"]
    cells = {
        "leaf_index": line["leaf_index"],
        "leaf_hash": line["leaf_hash"],
        "kind": statement["kind"],
        "created_at": body["created_at_ms"],
        "client": body["client"],
        "request_id": body["request_id"],
        "scheduler": body.get("scheduler"),
        "steps": body.get("steps"),
        "image_index": body.get("image_index"),
        "verdict": body.get("verdict"),
        "seed": int(body["seed"]) if "seed" in body else None,
        "probability": float(body["probability"]) if body.get("probability") else None,
    }
    model = body.get("model") or body.get("detector") or {}
    cells["model_name"], cells["model_digest"] = model.get("name"), model.get("digest")
    image = body.get("image", {})
    cells["image_sha256"], cells["pixel_sha256"] = image.get("sha256"), image.get("pixel_sha256")
    cells["width"], cells["height"] = image.get("width"), image.get("height")
    cells["perceptual_hash"] = (body.get("perceptual_hash") or {}).get("hash")
    cells.update({name: body.get(name) for name in DIGESTS})
    return cells


def main(parquet, ndjson):
    with open(ndjson, encoding="utf-8") as file:
        *lines, _manifest = [json.loads(line) for line in file]
    database = duckdb.connect()
    types = dict(row[:2] for row in database.execute("DESCRIBE SELECT * FROM read_parquet(?)", [parquet]).fetchall())
    found = database.execute(
        "SELECT * REPLACE (epoch_ms(created_at) AS created_at) FROM read_parquet(?) ORDER BY leaf_index", [parquet]
    )
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row)) for row in found.fetchall()]
    for row, line in zip(rows, lines, strict=True):
        assert json.loads(row.pop("envelope")) == line["envelope"], line
        assert row == expected(line), (row, expected(line))
    # What auditors do: digests that were found elsewhere, joined as text.
    known = [line["statement"]["body"]["image"]["sha256"] for line in lines if "image" in line["statement"]["body"]]
    query = "SELECT count(*) FROM read_parquet(?) JOIN (SELECT unnest(?) AS sha256) ON image_sha256 = sha256"
    (joined,) = database.execute(query, [parquet, known]).fetchone()
    keys = database.execute("SELECT key FROM parquet_kv_metadata(?)", [parquet]).fetchall()
    print(json.dumps({
        "rows": len(rows), "joined": joined, "types": types, "keys": [key.decode() for (key,) in keys],
    }))


if __name__ == "__main__":
    main(*sys.argv[1:])
