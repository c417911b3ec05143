"""Kills an ingest at random moments, starts it again until it is through, and compares every byte with one
that was left alone: `python3 benches/kills.py SOURCE [--rounds N]`, SOURCE as `pipeline ingest` takes it.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def contents(folder):
    """Digest of every file below a folder but the lock."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main():
    parser = argparse.ArgumentParser(description="an ingest that is killed ends as one that is not")
    parser.add_argument("source")
    parser.add_argument("--pipeline", default="target/release/pipeline", help="our program")
    parser.add_argument("--shard-bytes", default="1000000", help="small, for many moments to go on from")
    parser.add_argument("--rounds", default=25, type=int)
    parser.add_argument("--seed", default=1, type=int)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as work:
        def command(out):
            return [args.pipeline, "ingest", args.source, "--shard-bytes", args.shard_bytes, "--out", out]

        started = time.monotonic()
        subprocess.run(command(f"{work}/whole"), check=True, capture_output=True)
        length = time.monotonic() - started
        expected = contents(f"{work}/whole")
        kills, resumed = 0, 0
        for number in range(args.rounds):
            out, through = f"{work}/killed", False
            while not through:
                child = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                try:
                    _, said = child.communicate(timeout=random.uniform(0, 0.6 * length))
                    through = True
                    if child.returncode:
                        sys.exit(f"round {number + 1} failed: {said}")
                except subprocess.TimeoutExpired:
                    child.kill()
                    _, said = child.communicate()
                    kills += 1
                resumed += "goes on after" in said
            if contents(out) != expected:
                sys.exit(f"round {number + 1} ended with other bytes")
            shutil.rmtree(out)
    print(f"{args.rounds} ingests, {kills} kills, {resumed} times gone on: all ended with the same {len(expected)} files")


if __name__ == "__main__":
    main()
