"""Measures loaders that read from an S3 server, through a line with a delay and a rate (`line.py`), in turns
within one run: `pipeline bench` on this machine and from the store, full and window shuffle, one dataset
and two mixed, and MosaicML Streaming on the same photographs in the same store.

    cargo install s3s-fs --version 0.14.1 --locked --features binary
    python3 benches/far.py --server ~/.cargo/bin/s3s-fs --photographs ILSVRC2012_img_train.tar --json far.json

Server and line run on processors of their own, the loaders on the others, so that a loader has what it has
without a store (`--loader-cpus`, `--server-cpus`; on a machine of two: one each). How busy all three are is
measured over what a turn counts. MosaicML begins each turn with an empty cache.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
BUCKET = "datasets"
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}
LOCAL, MIXED = "local", "local, mixture"
# Row groups that the loader holds: two windows of the default.
HELD = 16
SAMPLE = 0.2


def arguments():
    cpus = sorted(os.sched_getaffinity(0))
    half = len(cpus) // 2
    parser = argparse.ArgumentParser(description="loaders that read from an S3 server, in turns")
    parser.add_argument("--photographs", required=True, help="archive or folder that `pipeline ingest` takes")
    parser.add_argument("--server", help="program of s3s-fs; without it far_store.py serves, which is slower")
    parser.add_argument("--pipeline", default="target/release/pipeline", help="our program")
    parser.add_argument("--work", default=".bench/far", type=Path, help="folder for datasets and the store")
    parser.add_argument("--copies", default=20, type=int, help="times that each photograph is in a dataset")
    parser.add_argument("--shard-bytes", default=8 << 20, type=int, help="size of a shard, which is one row group")
    parser.add_argument("--delay", default=30.0, type=float, help="milliseconds to the first byte")
    parser.add_argument("--gigabits", default=1.0, type=float, help="rate of the line; 0 has no limit")
    parser.add_argument("--threads", default=0, type=int, help="threads of ours; 0 for one a processor")
    parser.add_argument("--workers", default=2, type=int, help="worker processes of MosaicML")
    parser.add_argument("--library", default="opencv", choices=sorted(peers.LIBRARIES), help="of MosaicML's turns")
    parser.add_argument("--size", default=256, type=int)
    parser.add_argument("--batch", default=32, type=int)
    parser.add_argument("--seconds", default=8.0, type=float, help="length of a turn")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--only", default="", help="words of the names to measure, by semicolon; all where empty")
    parser.add_argument("--loader-cpus", type=processors, default=cpus[:half] or cpus, help="such as 0,1")
    parser.add_argument("--server-cpus", type=processors, default=cpus[half:], help="such as 2,3")
    parser.add_argument("--port", default=9300, type=int, help="of the line; the two after it are used too")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    args.threads = args.threads or len(args.loader_cpus)
    args.work = args.work.resolve()
    return args


def processors(text):
    return [int(number) for number in text.split(",")]


# What is read


def prepare(args):
    """Two datasets and MosaicML's shards of the first one's photographs, in the bucket's folder."""
    made = args.work / BUCKET
    settings = {"copies": args.copies, "shard_bytes": args.shard_bytes, "photographs": args.photographs}
    note = args.work / "settings.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        sys.exit(f"{args.work} was made with other settings ({note}): name another --work or remove it")
    args.work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(settings))
    each = args.work / "each"
    if not (each / "manifest.json").exists():
        ingest(args, args.photographs, each)
    images = list(peers.photographs(each))
    for name in ("one", "two"):
        if (made / name / "manifest.json").exists():
            continue
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            for copy in range(args.copies):
                below = Path(folder, name, f"{copy:03d}")
                below.mkdir(parents=True)
                for key, data in images:
                    (below / f"{key}.jpg").write_bytes(data)
            options = ["--layout", "folder", "--duplicates", "keep", "--name", name]
            ingest(args, Path(folder, name), made / name, "--shard-bytes", args.shard_bytes, *options)
    if not (made / "mds").exists():
        peers.write_mds(made / "mds", images * args.copies)


def ingest(args, source, out, *options):
    command = [args.pipeline, "--quiet", "ingest", source, "--out", out, *options]
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)


def shape(args):
    """Images, bytes and row groups of the first dataset."""
    manifest = json.loads((args.work / BUCKET / "one" / "manifest.json").read_text())
    shards = manifest["shards"]
    groups = sum(len(shard["groups"]) for shard in shards)
    return sum(shard["rows"] for shard in shards), sum(shard["bytes"] for shard in shards), groups


def upload(args, port):
    """Puts all files into the store as its users do, past the line."""
    import boto3

    keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", **keys)
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    there = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    for path in sorted((args.work / BUCKET).rglob("*")):
        key = str(path.relative_to(args.work / BUCKET))
        if path.is_file() and there.get(key) != path.stat().st_size:
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


# Server and line


def pinned(cpus):
    return lambda: os.sched_setaffinity(0, cpus)


def start(args):
    """Server and line; their processes."""
    port = args.port + 2
    if args.server:
        root = args.work / "store"
        root.mkdir(exist_ok=True)
        command = [args.server, "--host", "127.0.0.1", "--port", port]
        command += ["--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"], root]
    else:
        command = [sys.executable, HERE / "far_store.py", args.work, "--port", port]
    line = [sys.executable, HERE / "line.py", "--to", port, "--port", args.port]
    line += ["--delay", args.delay, "--gigabits", args.gigabits]
    processes = {}
    for name, words in (("server", command), ("line", line)):
        words = [str(word) for word in words]
        processes[name] = subprocess.Popen(words, preexec_fn=pinned(args.server_cpus), stdout=subprocess.DEVNULL)
    for name, at in (("server", port), ("line", args.port + 1)):
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", at), 1).close()
                break
            except OSError:
                if processes[name].poll() is not None or time.monotonic() > ends:
                    stop(processes)
                    sys.exit(f"the {name} does not listen on port {at}")
                time.sleep(0.05)
    return processes


def stop(processes):
    for process in processes.values():
        process.kill()
        process.wait()


def counts(args):
    with socket.create_connection(("127.0.0.1", args.port + 1), 5) as connection:
        return json.loads(connection.makefile().readline())


# How busy a process and its children are, and what memory they hold


def tree(pid):
    pids, at = [pid], 0
    while at < len(pids):
        try:
            for task in os.listdir(f"/proc/{pids[at]}/task"):
                pids += map(int, Path(f"/proc/{pids[at]}/task/{task}/children").read_text().split())
        except OSError:
            pass
        at += 1
    return pids


def busy(pid):
    """Seconds of processors that they have used."""
    ticks = 0
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Bytes, pages that several share counted once."""
    total = 0
    for each in tree(pid):
        try:
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
        except OSError:
            pass
    return total


class Watch(threading.Thread):
    """What client, server and line have used, and what came over the line, over and over."""

    def __init__(self, args, client, processes, with_memory):
        super().__init__(daemon=True)
        self.args, self.with_memory, self.over = args, with_memory, threading.Event()
        self.pids = {"client": client.pid} | {name: process.pid for name, process in processes.items()}
        self.samples, self.peak = [], 0

    def run(self):
        while not self.over.wait(SAMPLE):
            try:
                sample = {name: busy(pid) for name, pid in self.pids.items()} | counts(self.args)
            except OSError:
                return  # The line has been stopped.
            self.samples.append((time.monotonic(), sample))
            if self.with_memory and len(self.samples) % 5 == 0:
                self.peak = max(self.peak, memory(self.pids["client"]))

    def between(self, started, ended):
        """Shares of one processor, and what came over the line a second."""
        inside = [sample for sample in self.samples if started <= sample[0] <= ended]
        if len(inside) < 2:
            return {}
        (began, first), (over, last) = inside[0], inside[-1]
        # A client that has ended has used nothing.
        last = last if last["client"] >= first["client"] else inside[-2][1]
        return {name: (last[name] - first[name]) / (over - began) for name in last}


# One turn of each


def run(args, processes, command, with_memory):
    """Runs a command on the loaders' processors; its output, its watch, and when it ended."""
    endpoint = f"http://127.0.0.1:{args.port}"
    environment = os.environ | KEYS | {"AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true", "S3_ENDPOINT_URL": endpoint}
    command = [str(word) for word in command]
    client = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, preexec_fn=pinned(args.loader_cpus))
    watch = Watch(args, client, processes, with_memory)
    watch.start()
    output, _ = client.communicate()
    ended = time.monotonic()
    watch.over.set()
    watch.join()
    if client.returncode != 0:
        stop(processes)
        sys.exit(f"this failed: {' '.join(command)}")
    return json.loads(output), watch, ended


def ours(names, shuffle, far):
    def turn(args, processes):
        where = f"s3://{BUCKET}" if far else args.work / BUCKET
        command = [args.pipeline, "bench", "--dataset", *[f"{where}/{name}" for name in names]]
        command += ["--shuffle", shuffle, "--task", peers.TASKS, "--threads", args.threads, "--size", args.size]
        command += ["--batch", args.batch, "--seconds", args.seconds, "--rounds", 1, "--json"]
        figures, watch, ended = run(args, processes, command, False)
        # The turn that counts is the last thing that the program does.
        used = watch.between(ended - args.seconds, ended)
        return {
            "images_per_second": figures["images_per_second"],
            "requests_per_image": figures["requests_per_image"],
            "bytes_per_image": figures["bytes_per_image"],
            "read_wait_ms": figures["read_wait_ms"],
            "memory_bytes": figures["peak_memory_bytes"],
            "busy": used,
            "late": watch.between(ended - args.seconds / 2, ended),
            "bench": figures,
        }

    return turn


def mosaicml(far, block):
    def turn(args, processes):
        with tempfile.TemporaryDirectory(dir=args.work) as cache:
            local = cache if far else str(args.work / BUCKET / "mds")
            settings = {"remote": f"s3://{BUCKET}/mds" if far else None, "local": local, "block": block(args)}
            settings |= {name: getattr(args, name) for name in ("workers", "size", "batch", "seconds", "library")}
            command = [sys.executable, "-W", "ignore", __file__, "mosaicml-turn", json.dumps(settings)]
            figures, watch, _ = run(args, processes, command, True)
        began, over = figures["marks"]
        used = watch.between(began, over)
        rate = figures["images_per_second"]
        each = lambda what: used.get(what, 0.0) / rate
        return {
            "images_per_second": rate,
            "requests_per_image": each("requests"),
            "bytes_per_image": each("bytes"),
            "read_wait_ms": None,
            "memory_bytes": watch.peak,
            "busy": used,
            "late": watch.between((began + over) / 2, over),
        }

    return turn


def mosaicml_turn(settings):
    """In a process of its own: prints images a second, and when what counts began and ended."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    args = argparse.Namespace(**settings)
    process = peers.LIBRARIES[args.library](args.size)

    class Photographs(StreamingDataset):
        def __getitem__(self, index):
            return process(super().__getitem__(index)["image"])

    clean_stale_shared_memory()
    more = {"shuffle_block_size": args.block} if args.block else {}
    rows = Photographs(remote=args.remote, local=args.local, batch_size=args.batch, shuffle=True, **more)
    for stream in rows.streams:
        # Or the workers inherit its open connection, and images come out broken (0.13.0, without TLS).
        stream._downloader.clean_up()
    marks = []
    loader = DataLoader(rows, args.batch, num_workers=args.workers)
    try:
        rate = peers.turn_of_peer(loader, args, lambda: marks.append(time.monotonic()))
    except StopIteration:
        sys.exit("a turn of MosaicML needs more photographs than there are: say more --copies")
    print(json.dumps({"images_per_second": rate, "marks": marks}))


def block_of_window(args):
    """As many images as our window of eight row groups mixes."""
    images, size, _ = args.shape
    return max(HELD // 2 * args.shard_bytes * images // size, 1)


TURNS = {
    LOCAL: ours(["one"], "full", False),
    "far, full": ours(["one"], "full", True),
    "far, window": ours(["one"], "window", True),
    MIXED: ours(["one", "two"], "full", False),
    "far, mixture, full": ours(["one", "two"], "full", True),
    "far, mixture, window": ours(["one", "two"], "window", True),
    "mosaicml, local": mosaicml(False, lambda args: None),
    "mosaicml, far": mosaicml(True, lambda args: None),
    "mosaicml, far, blocks": mosaicml(True, block_of_window),
}


def base(name):
    """The turn on this machine that a turn is compared with."""
    if name.startswith("mosaicml"):
        return "mosaicml, local"
    return MIXED if "mixture" in name else LOCAL


# The whole


def main():
    if sys.argv[1:2] == ["mosaicml-turn"]:
        return mosaicml_turn(json.loads(sys.argv[2]))
    args = arguments()
    prepare(args)
    args.shape = images, size, groups = shape(args)
    print(f"{images} photographs a dataset, {size / 1e6:.0f} MB, {groups} row groups", file=sys.stderr)
    if groups <= HELD:
        print(f"the loader holds {HELD} row groups: window shuffle reads this dataset once", file=sys.stderr)
    words = [word.strip() for word in args.only.split(";") if word.strip()]
    turns = {name: turn for name, turn in TURNS.items() if not words or any(word in name for word in words)}
    rounds = {name: [] for name in turns}
    # What watches shall not disturb the loaders.
    os.sched_setaffinity(0, args.server_cpus)
    processes = start(args)
    try:
        if args.server:
            upload(args, args.port + 2)
        for number in range(args.rounds):
            for name, turn in turns.items():
                load = os.getloadavg()[0]
                figures = turn(args, processes) | {"load_before": load}
                rounds[name].append(figures)
                print(f"round {number + 1}: {name}: {figures['images_per_second']:.0f} images/s", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped: the figures are of the turns that have ended", file=sys.stderr)
    finally:
        stop(processes)
    report(args, {name: turns for name, turns in rounds.items() if turns})


def report(args, rounds):
    images, size, groups = args.shape
    line = args.gigabits * 1e9 / 8 / (size / images)
    median = lambda values: statistics.median(values) if values else None
    result = {}
    for name, turns in rounds.items():
        rates = [turn["images_per_second"] for turn in turns]
        # Shares are taken round by round: what else runs on the machine differs from one to the next.
        locals_ = [turn["images_per_second"] for turn in rounds.get(base(name), [])]
        far = "local" not in name
        result[name] = figures = {"images_per_second": median(rates), "min": min(rates), "max": max(rates)}
        if far and line:
            figures["of_line"] = median([rate / line for rate in rates])
        if far and locals_:
            figures["of_local"] = median([rate / local for rate, local in zip(rates, locals_)])
            bounds = [min(local, line or local) for local in locals_]
            figures["of_lesser"] = median([rate / bound for rate, bound in zip(rates, bounds)])
        for what in ("requests_per_image", "bytes_per_image", "read_wait_ms", "memory_bytes"):
            values = [turn[what] for turn in turns if turn[what] is not None]
            figures[what] = median(values) if far or what == "memory_bytes" else None
        measured = [turn for turn in turns if turn["busy"] and turn["late"]]
        for who in ("client", "server", "line"):
            figures[f"{who}_busy"] = median([turn["busy"][who] for turn in measured])
        figures["client_ms"] = median([1e3 * turn["busy"]["client"] / turn["images_per_second"] for turn in measured])
        for what in ("requests", "bytes"):
            late = [turn["late"][what] / turn["images_per_second"] for turn in measured]
            figures[f"late_{what}_per_image"] = median(late) if far else None
    head = ["what", "images/s", "least", "most", "of local", "of line", "of lesser", "requests", "kB", "late requests"]
    head += ["late kB", "wait ms", "memory MB", "loader ms", "loader busy", "server busy", "line busy"]
    rows = [head]
    for name, figures in result.items():
        show = lambda key, form, scale=1: "" if figures.get(key) is None else format(figures[key] * scale, form)
        row = [name, show("images_per_second", ".0f"), show("min", ".0f"), show("max", ".0f")]
        row += [show(key, ".0%") for key in ("of_local", "of_line", "of_lesser")]
        for what in ("", "late_"):
            row += [show(f"{what}requests_per_image", ".2f"), show(f"{what}bytes_per_image", ".0f", 1e-3)]
        row += [show("read_wait_ms", ".2f"), show("memory_bytes", ".0f", 1e-6), show("client_ms", ".2f")]
        row += [show(f"{who}_busy", ".0%") for who in ("client", "server", "line")]
        rows.append(row)
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                        for at, (cell, width) in enumerate(zip(row, widths))))
    print(f"the line carries {line:.0f} of these images a second" if line else "the line has no limit")
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name not in ("json", "work", "shape")}
        whole = {"images": images, "bytes": size, "row_groups": groups, "line_images_per_second": line,
                 "settings": settings, "figures": result, "rounds": rounds}
        args.json.write_text(json.dumps(whole, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
