"""Measures training by several ranks, in turns within one run: ours beside PyTorch's DistributedDataParallel.

    python3 benches/ranks.py --json ranks.json

Steps: the same network (`torch_unet.py`), the same global batch, one thread a process; `trainer bench` with one
and with two ranks, with `train.shares` and with `train.shard_optimizer`, and PyTorch with one process and with
two under DDP over Gloo. Collectives: the sum of as many bytes by `trainer collectives` and by
`torch.distributed.all_reduce`. Recovery: a rank of a job is killed; seconds until its next attempt has made a step.

Every turn is processes of its own. The figure of a turn is the median of its steps or rounds, that of a contender
the median of its turns; ratios are taken round by round, and of these the median counts: what else the machine
does passes over neighbours alike.

Wants PyTorch 2.11; `--only recovery` wants Postgres and no PyTorch.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from train_step import STAGES, experiment

OURS_ONE, OURS_TWO = "ours, 1 rank", "ours, 2 ranks"
TORCH_ONE, TORCH_TWO = "PyTorch, 1 process", "DDP, 2 processes"
# Contenders of ours: number of ranks, changes of the configuration, variables.
OURS = {
    OURS_ONE: (1, [], {}),
    OURS_TWO: (2, [], {}),
    "ours, 2 ranks, sums after the backward pass": (2, [], {"PALETTE_OVERLAP": 0}),
    "ours, 2 ranks, shares = 2": (2, ["train.shares=2"], {}),
    "ours, 2 ranks, shares = 8": (2, ["train.shares=8"], {}),
    "ours, 2 ranks, shard_optimizer": (2, ["train.shard_optimizer=true"], {}),
}
PEERS = {TORCH_ONE: 1, TORCH_TWO: 2}
# The fastest of `train_step.py` that compiles nothing.
VARIANT = "eager-fused-channels-last"
PARTS = ("steps", "collectives", "recovery")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml", type=Path, help="experiment, TOML")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of it")
    parser.add_argument("--bin", default="target/release", type=Path, help="our programs")
    parser.add_argument("--batches", default="8,32", help="images a step, of all ranks, by comma")
    parser.add_argument("--megabytes", default="4,32,256", help="sizes of sums, by comma")
    parser.add_argument("--threads", default=1, type=int, help="of each process")
    parser.add_argument("--seconds", default=3.0, type=float, help="length of a turn")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--only", default=",".join(PARTS), help="steps, collectives, recovery, by comma")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", choices=["step", "sum"], help="be a process of PyTorch")
    parser.add_argument("--batch", default=8, type=int, help="images of a process, of --child step")
    args = parser.parse_args()
    args.only = [word.strip() for word in args.only.split(",")]
    for word in args.only:
        if word not in PARTS:
            parser.error(f"--only {word}: allowed are {', '.join(PARTS)}")
    return args


# A process of PyTorch


def joined(torch):
    """Rank and number of processes, of which the environment tells as `torchrun` does."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        torch.distributed.init_process_group("gloo")
    return int(os.environ.get("RANK", 0)), size


def parted(torch, size):
    """Ends together: a process whose peers are gone may not end well."""
    if size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def agreed(torch, size, value):
    """The first one's number, for all."""
    told = torch.tensor(value, dtype=torch.int64)
    if size > 1:
        torch.distributed.broadcast(told, 0)
    return told.item()


def step_child(args):
    import torch
    from train_step import Peer

    torch.set_num_threads(args.threads)
    rank, size = joined(torch)
    facts = argparse.Namespace(device="cpu", precision="fp32", child=VARIANT, batch=args.batch)
    peer = Peer(facts, experiment(args.config, args.set))
    if size > 1:
        peer.network = torch.nn.parallel.DistributedDataParallel(peer.network, gradient_as_bucket_view=True)

    def step():
        begun = time.perf_counter()
        for stage in STAGES:
            getattr(peer, stage)()
        return time.perf_counter() - begun

    # As many as ours makes before it measures: three, and two to find out how many there is time for.
    for _ in range(3):
        step()
    each = statistics.mean(step() for _ in range(2))
    count = agreed(torch, size, max(3, round(args.seconds / each)))
    times = [step() for _ in range(count)]
    if rank == 0:
        print(json.dumps({"seconds_per_step": statistics.median(times), "steps": count}))
    parted(torch, size)


def sum_child(args):
    import torch

    torch.set_num_threads(args.threads)
    rank, size = joined(torch)
    figures = {}
    for megabytes in map(int, args.megabytes.split(",")):
        tensor = torch.zeros(megabytes * 250_000)

        def round_():
            begun = time.perf_counter()
            torch.distributed.all_reduce(tensor)
            return time.perf_counter() - begun

        each = [round_() for _ in range(2)][-1]
        count = agreed(torch, size, min(10_000, max(5, round(args.seconds / 3 / each))))
        figures[megabytes] = statistics.median(round_() for _ in range(count))
    if rank == 0:
        print(json.dumps(figures))
    parted(torch, size)


# Turns


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return kept | {key: str(value) for key, value in more.items()}


def answered(command, **more):
    """What a program prints as JSON."""
    done = subprocess.run([str(word) for word in command], env=environment(**more), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:].rstrip()}")
    return json.loads(done.stdout)


def processes(count, command):
    """What the first of several processes prints that compute together over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = []
    for rank in range(count):
        told = {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        output = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
        words = [str(word) for word in command]
        said.append(subprocess.Popen(words, env=environment(**told), stdout=output, stderr=subprocess.PIPE, text=True))
    first, rest = said[0], said[1:]
    output, errors = first.communicate()
    for process in rest:
        errors += process.communicate()[1]
    if any(process.returncode for process in said):
        sys.exit(f"error: {' '.join(map(str, command))} failed:\n{errors[-2000:].rstrip()}")
    return json.loads(output)


def torch_command(args, child, *options):
    sets = [word for change in args.set for word in ("--set", change)]
    here = [sys.executable, Path(__file__).resolve(), args.config, *sets]
    return [*here, "--threads", args.threads, "--seconds", args.seconds, "--child", child, *options]


def step_turn(args, name, batch):
    if name in PEERS:
        count = PEERS[name]
        command = torch_command(args, "step", "--batch", batch // count)
        return processes(count, command)
    ranks, changes, variables = OURS[name]
    sets = [word for change in [*args.set, "train.micro_batch=0", *changes] for word in ("--set", change)]
    options = ["--batch", batch, "--threads", args.threads, "--seconds", args.seconds, "--device", "cpu", "--ranks", ranks]
    return answered([args.bin / "trainer", "bench", args.config, *sets, *options, "--json"], **variables)


def steps(args):
    """Figures by batch and contender."""
    results = {}
    for batch in map(int, args.batches.split(",")):
        turns = {name: [] for name in [*OURS, *PEERS]}
        for number in range(args.rounds):
            # Neighbours are compared, and who is first changes.
            names = list(turns) if number % 2 == 0 else list(reversed(turns))
            for name in names:
                turns[name].append(step_turn(args, name, batch))
                ms = 1000 * turns[name][-1]["seconds_per_step"]
                print(f"batch {batch}, round {number + 1}: {name}: {ms:.1f} ms", file=sys.stderr, flush=True)
        results[batch] = {name: summary(list_, turns) for name, list_ in turns.items()}
        print(f"\n{'global batch ' + str(batch):34} {'ms/step':>8} {'least':>8} {'most':>8} {'of DDP':>7} {'speed-up':>8} {'in collectives':>14} {'MB a rank':>9}")
        for name, one in results[batch].items():
            share = f"{one['in_collectives']:.0%}" if one.get("in_collectives") else ""
            memory = f"{one['peak_memory_bytes'] / 1e6:.0f}" if one.get("peak_memory_bytes") else ""
            times = " ".join(f"{1000 * seconds:8.1f}" for seconds in (one["seconds"], min(one["rounds"]), max(one["rounds"])))
            print(f"{name:34} {times} {one['of_ddp']:7.2f} {one['speed_up']:8.2f} {share:>14} {memory:>9}")
    return results


def summary(turns, every):
    rounds = [figures["seconds_per_step"] for figures in turns]
    ratio = lambda other, this: statistics.median(
        b["seconds_per_step"] / a["seconds_per_step"] for a, b in zip(this, other)
    )
    alone = every[TORCH_ONE if turns in (every[TORCH_ONE], every[TORCH_TWO]) else OURS_ONE]
    shares = [one["collective_seconds"] / one["seconds_per_step"] for one in turns if "collective_seconds" in one]
    return {
        "rounds": rounds,
        "seconds": statistics.median(rounds),
        "of_ddp": ratio(turns, every[TORCH_TWO]),
        "speed_up": ratio(alone, turns),
        "in_collectives": statistics.median(shares) if shares else None,
        "peak_memory_bytes": turns[0].get("peak_memory_bytes"),
    }


def collectives(args):
    """Seconds of sums by size: ours, PyTorch's, and the ratios of the rounds."""
    rounds = []
    command = [args.bin / "trainer", "collectives", "--ranks", 2, "--device", "cpu", "--seconds", args.seconds / 3]
    command += ["--megabytes", args.megabytes, "--json"]
    for number in range(args.rounds):
        found = answered(command)
        ours = {one["bytes"] // 1_000_000: one["seconds"] for one in found["sizes"] if one["operation"] == "sum"}
        theirs = processes(2, torch_command(args, "sum", "--megabytes", args.megabytes))
        rounds.append((ours, {int(size): seconds for size, seconds in theirs.items()}))
        print(f"sums, round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
    print(f"\n{'sum over 2 ranks':20} {'ours, ms':>9} {'PyTorch, ms':>11} {'ratio':>6} {'GB/s':>6}")
    results = {}
    for size in map(int, args.megabytes.split(",")):
        ours, theirs = ([one[side][size] for one in rounds] for side in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        one, other = statistics.median(ours), statistics.median(theirs)
        results[size] = {"ours": ours, "torch": theirs, "ratio": ratio}
        print(f"{size:17} MB {1000 * one:9.1f} {1000 * other:11.1f} {ratio:6.2f} {size / 1000 / one:6.2f}")
    return results


# A killed rank


class Laboratory:
    """A private Postgres, a dataset and a worker, all below one folder."""

    def __init__(self, args, work):
        self.bin, self.work = args.bin.resolve(), Path(work)
        self.environment = environment(PALETTE_HOME=self.work / "home", PALETTE_RETRY_SECONDS=0)
        self.environment.pop("DATABASE_URL", None)

    def run(self, program, *words):
        command = [self.bin / program, *map(str, words)]
        done = subprocess.run(command, env=self.environment, cwd=self.work, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: {program} {' '.join(map(str, words))} failed:\n{done.stderr}")
        return done.stdout

    def step(self, attempt):
        """The newest step that an attempt of the newest job tells of; 0 before its first."""
        logs = sorted((self.work / "home/jobs").glob(f"*/attempt-{attempt}/log"), key=lambda path: path.stat().st_ctime)
        told = re.findall(r"^step (\d+)/", logs[-1].read_text(), re.MULTILINE) if logs else []
        return int(told[-1]) if told else 0


def recovery(args):
    """Seconds from the death of a rank to the first step of the next attempt, for each round."""
    found = []
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        laboratory = Laboratory(args, work)
        laboratory.run("pipeline", "scenes", "--out", "scenes", "--count", 64, "--size", 32)
        laboratory.run("pipeline", "ingest", "scenes", "--out", "data")
        try:
            for number in range(args.rounds):
                found.append(killed(laboratory, args, f"killed-{number + 1}"))
                print(f"recovery, round {number + 1}: {found[-1]:.2f} s", file=sys.stderr, flush=True)
        finally:
            laboratory.run("scheduler", "down")
    print(f"\na killed rank: {statistics.median(found):.2f} s to the next attempt's first step ({min(found):.2f} to {max(found):.2f})")
    return found


def killed(laboratory, args, name):
    """Submits a job of two ranks, kills the second one and waits until the next attempt has made a step."""
    sets = ["train.log_every=1", "train.steps=100000", "train.checkpoint.every=5", "train.batch_size=8"]
    sets += [f"name={name}", "train.device=cpu", "data.threads=1"]
    words = [word for change in sets for word in ("--set", change)]
    # Without its validation and previews: steps alone.
    config = laboratory.work / "experiment.toml"
    config.write_text(re.split(r"^\[train\.validation\]", args.config.resolve().read_text(), flags=re.MULTILINE)[0])
    laboratory.run("trainer", "submit", config, "--dataset", "data", "--ranks", 2, *words)
    worker = subprocess.Popen(
        [laboratory.bin / "scheduler", "worker"],
        env=laboratory.environment,
        cwd=laboratory.work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # Past its first checkpoint.
        wait_for("the seventh step", lambda: laboratory.step(1) >= 7)
        (leader,) = children(worker.pid)
        (rank,) = children(leader)
        begun = time.monotonic()
        os.kill(rank, signal.SIGKILL)
        wait_for("a step of the next attempt", lambda: laboratory.step(2) > 0)
        return time.monotonic() - begun
    finally:
        laboratory.run("scheduler", "cancel", name)
        worker.terminate()
        worker.wait()
        shutil.rmtree(laboratory.work / "home/jobs", ignore_errors=True)


def children(process):
    done = subprocess.run(["pgrep", "--parent", str(process)], capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


def wait_for(what, there, limit=300):
    until = time.monotonic() + limit
    while not there():
        if time.monotonic() > until:
            sys.exit(f"error: {what} did not come within {limit} s")
        time.sleep(0.005)


def main():
    args = arguments()
    if args.child:
        return {"step": step_child, "sum": sum_child}[args.child](args)
    load = os.getloadavg()[0]
    print(f"{args.config}, {args.threads} thread(s) a process, load {load:.1f} at the beginning", file=sys.stderr)
    facts = {"config": str(args.config), "set": args.set, "threads": args.threads, "cores": os.cpu_count(), "load": load}
    for part, measure in (("steps", steps), ("collectives", collectives), ("recovery", recovery)):
        if part in args.only:
            facts[part] = measure(args)
            if args.json:
                args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
