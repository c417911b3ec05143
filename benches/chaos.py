"""Trains the same networks twice, once in peace and once while workers, their children and Postgres are killed
and frozen at random, and compares every tensor and every point of the loss: they must be equal to the bit.

    python3 benches/chaos.py --work DIR [--steps N] [--seed N]

DIR must not exist, and be where Postgres may run (as root: where its own user may go).
"""

import argparse
import atexit
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

LEASE = 2.0


class Laboratory:
    def __init__(self, args):
        self.work = Path(args.work).resolve()
        self.work.mkdir(mode=0o755)
        self.bin = Path(args.bin).resolve()
        self.environment = dict(
            os.environ,
            PALETTE_HOME=str(self.work / "home"),
            PALETTE_LEASE_SECONDS=str(LEASE),
            PALETTE_RETRY_SECONDS="0",
        )
        self.environment.pop("DATABASE_URL", None)
        self.log = open(self.work / "workers.log", "a")

    def run(self, program, *arguments):
        """What a command prints; it must succeed."""
        done = subprocess.run(
            [self.bin / program, *map(str, arguments)], env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{program} {' '.join(map(str, arguments))} failed:\n{done.stderr}")
        return done.stdout

    def worker(self, *arguments):
        process = subprocess.Popen(
            [self.bin / "scheduler", "worker", *arguments],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        # Whatever ends this program, none is left behind.
        atexit.register(process.kill)
        return process

    def query(self, statement):
        url = self.run("scheduler", "up").split()[0]
        done = subprocess.run(["psql", url, "-qAtc", statement], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    def submit(self, config, name, data, runs, steps):
        self.run(
            "trainer", "submit", config, "--dataset", data, "--seeds", runs, "--attempts", 10_000,
            "--set", f"name={name}", "--set", f"train.steps={steps}", "--set", "train.log_every=1",
            "--set", "train.batch_size=4", "--set", "train.checkpoint.every=5", "--key", name,
            "--set", f"train.validation={{ dataset = '{data}', images = 8, every = 50 }}",
        )

    def jobs(self, name):
        return json.loads(self.run("scheduler", "jobs", "--all", "--name", f"{name}-*", "--json"))

    def results(self, name):
        """Of each run by seed: the digest of each file of its last checkpoint, and its points."""
        results = {}
        rows = self.query(
            f"select distinct on (runs.seed) runs.seed, runs.id, checkpoints.uri from runs "
            f"join checkpoints on run_id = runs.id where name like '{name}-%' order by runs.seed, step desc"
        )
        for seed, run, uri in (row.split("|") for row in rows):
            folder = Path(uri.removeprefix("file://"))
            files = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.glob("*.safetensors"))
            }
            # Times and speeds differ from run to run; what was learned does not. Of a step that was made
            # twice the newer attempt counts.
            points = self.query(
                f"select distinct on (name, step) name, step, value from metrics "
                f"join series on series.id = series_id where run_id = '{run}' and name = 'loss' "
                f"order by name, step, attempt desc"
            )
            results[seed] = (files, points)
        return results


def children(process):
    """The attempts of a worker."""
    done = subprocess.run(["pgrep", "--parent", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def strike(laboratory, workers, dice):
    """One fault; returns what it was, or none where there was nobody to harm."""
    what = dice.choice(
        ["worker killed", "worker killed", "child killed", "child killed", "worker frozen past its lease",
         "child frozen past its lease", "Postgres killed"]
    )
    worker = dice.choice(workers)
    attempts = children(worker)
    try:
        if what == "worker killed":
            worker.kill()
            worker.wait()
        elif what == "Postgres killed":
            pid = (laboratory.work / "home/postgres/data/postmaster.pid").read_text().split()[0]
            os.kill(int(pid), signal.SIGKILL)
        else:
            target = worker.pid if what.startswith("worker") else dice.choice(attempts or [0])
            if not target:
                return None
            if what == "child killed":
                os.kill(target, signal.SIGKILL)
            else:
                os.kill(target, signal.SIGSTOP)
                time.sleep(dice.uniform(1.2, 2.5) * LEASE)
                os.kill(target, signal.SIGCONT)
    except (ProcessLookupError, FileNotFoundError):
        return None
    return what


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", required=True, help="a folder to make")
    parser.add_argument("--bin", default="target/release", help="where our programs are")
    parser.add_argument("--config", default="configs/demo.toml")
    parser.add_argument("--runs", default=3, type=int)
    parser.add_argument("--steps", default=150, type=int)
    parser.add_argument("--pause", default=1.5, type=float, help="seconds between two faults, in the mean")
    parser.add_argument("--seed", default=1, type=int)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    laboratory = Laboratory(args)

    laboratory.run("pipeline", "scenes", "--out", laboratory.work / "scenes", "--count", 200, "--size", 32)
    data = laboratory.work / "data"
    laboratory.run("pipeline", "ingest", laboratory.work / "scenes", "--layout", "auto", "--out", data)

    began = time.monotonic()
    laboratory.submit(args.config, "calm", data, args.runs, args.steps)
    if laboratory.worker("--drain", "--poll", "0.2").wait():
        sys.exit("training in peace failed: see workers.log")
    calm = time.monotonic() - began

    began, done = time.monotonic(), Counter()
    laboratory.submit(args.config, "harmed", data, args.runs, args.steps)
    workers = [laboratory.worker("--poll", "0.2") for _ in range(2)]
    while True:
        jobs = laboratory.jobs("harmed")
        if all(job["state"] in ("succeeded", "failed", "cancelled") for job in jobs):
            break
        time.sleep(dice.uniform(0.3, 2 * args.pause))
        done[strike(laboratory, workers, dice)] += 1
        workers = [laboratory.worker("--poll", "0.2") if worker.poll() is not None else worker for worker in workers]
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait()
    harmed = time.monotonic() - began

    wrong = [job["short"] for job in jobs if job["state"] != "succeeded"]
    successes = laboratory.query(
        "select count(*) from attempts join jobs on jobs.id = job_id "
        "where outcome = 'succeeded' and name like 'harmed-%' group by job_id"
    )
    expected, found = laboratory.results("calm"), laboratory.results("harmed")
    laboratory.run("scheduler", "down")

    del done[None]
    for what, times in sorted(done.items()):
        print(f"{times:4} {what}")
    print(f"{sum(done.values())} faults (seed {args.seed}), {sum(job['attempt'] for job in jobs)} attempts of {len(jobs)} runs "
          f"of {args.steps} steps; {calm:.0f} s in peace, {harmed:.0f} s harmed")
    if wrong or any(count != "1" for count in successes) or len(successes) != args.runs:
        sys.exit(f"not one success each: {wrong} {successes}")
    if expected.keys() != found.keys():
        sys.exit("other runs")
    for seed, (files, points) in expected.items():
        if not files or len(points) < args.steps:
            sys.exit(f"seed {seed}: {len(files)} files and {len(points)} points in peace: nothing to compare")
        if files != found[seed][0]:
            sys.exit(f"seed {seed}: other tensors")
        if points != found[seed][1]:
            differ = [pair for pair in zip(points, found[seed][1]) if pair[0] != pair[1]]
            sys.exit(f"seed {seed}: other points: {differ[:3]}, {len(points)} and {len(found[seed][1])}")
    print("every tensor of the last checkpoints and every point of the loss is the same to the bit")


if __name__ == "__main__":
    main()
