"""A dataset of many shards out of one: links to the shards of a small dataset under a manifest that names
each of them many times. For measuring what opening and the index cost; keys repeat.

    pipeline scenes …; pipeline ingest FOLDER --out small
    python3 benches/scale.py small big --shards 10000
    pipeline bench --dataset big --size 8 --task colorization --threads 2 --rounds 1 --seconds 60
"""

import argparse
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser(description="a dataset of many shards out of one")
parser.add_argument("small", type=Path)
parser.add_argument("big", type=Path)
parser.add_argument("--shards", type=int, default=10_000)
args = parser.parse_args()

manifest = json.loads((args.small / "manifest.json").read_text())
(args.big / "data").mkdir(parents=True)
shards = []
for number in range(args.shards):
    shard = dict(manifest["shards"][number % len(manifest["shards"])])
    name = f"data/train-{number:05}-of-{args.shards:05}.parquet"
    os.link(args.small / shard["file"], args.big / name)
    shards.append({**shard, "file": name})
manifest["shards"] = shards
manifest["rows"] = manifest["counts"]["accepted"] = sum(shard["rows"] for shard in shards)
(args.big / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
print(f"{manifest['rows']} rows in {len(shards)} shards")
