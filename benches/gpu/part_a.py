"""Part A: is it right on this device, and how fast is it?"""

import json
import os
import re
import shutil

from kernels import kernels
from phases import Command

# Golden networks: file, whose names, channels of a head, order of attention; all are of 32x32.
GOLDEN = [
    ("adm_small", "adm", 16, "legacy"),
    ("janspiry_small", "janspiry", 16, "legacy"),
    ("adm_newattn", "adm", 32, "new"),
]


def commands(place, phases):
    """Lists of commands, each with how many of them run at the same time."""
    if not place.quick:
        yield [check(place), ceilings(place)], 1
    programs = place.test_programs()
    if place.quick:
        programs = [program for program in programs if program.name.startswith("test-torch-ext")]
    yield [tests(place, program) for program in programs] or [no_tests()], 1
    yield verify(place), 4
    if place.quick:
        yield [check(place), ours(place, "ours", [16], limit=80)], 1
        return
    yield exact(place), 2
    # A process for a few sizes: what ends one leaves the figures of the others.
    sizes = [[1], [2]] if place.cpu else [[8, 16], [1, 4], [24, 32]]
    names = ["ours", "ours-less", "ours-more"]
    yield [ours(place, name, batches, limit=80) for name, batches in zip(names, sizes)], 1
    sizes, alone = ([[1]], 2) if place.cpu else ([[32, 48], [64]], 8)
    names = ["ours-recompute", "ours-recompute-more"]
    again = ["train.recompute=true"]
    yield [ours(place, name, batches, limit=70, sets=again) for name, batches in zip(names, sizes)], 1
    yield [sampling(place, 1), sampling(place, 2 if place.cpu else 16)], 1
    yield [ours(place, "ours-deterministic", [alone], limit=45, sets=["train.deterministic=true"])], 1
    yield [loader(place), fed(place), kernel_times(place)], 1


def seconds(place, usual):
    return "0.2" if place.cpu else str(usual)


def check(place):
    command = [place.program("trainer"), "check", place.config, "--set", f"train.precision={place.precision}"]
    return Command("check", [*command, "--json"], limit=20)


def ceilings(place):
    file = place.figures / "logs" / "ceilings.json"
    small = ["--small", "--batch", "1"] if place.cpu else []
    command = [place.python, place.root / "benches/gpu/ceilings.py", place.config, "--device", place.device]
    missing = None if place.torch else "PyTorch does not load in this Python"
    return Command("ceilings", [*command, *small, "--json", file], limit=60, file=file, missing=missing)


def no_tests():
    return Command("test", [], missing="there are no test programs: `pack.sh` brings them along")


def tests(place, program):
    libraries = [str(place.bin / "libtorch" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = {"LD_LIBRARY_PATH": ":".join(filter(None, libraries)), "RUST_BACKTRACE": "0"}
    return Command(
        program.name,
        [program, "--test-threads", "1"],
        limit=90,
        environment=environment,
        # Their own files lie there as in the source.
        folder=place.tests.parent,
        read=counted,
        answers=(0, 101),
    )


def counted(text):
    """What a Rust test program says: how many passed and failed, which failed, which never ended."""
    begun = re.findall(r"^test (\S+)(?: - should panic)? \.\.\.(.*)$", text, re.MULTILINE)
    results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", text, re.MULTILINE)
    failed = re.findall(r"^---- (\S+) stdout ----$", text, re.MULTILINE)
    if not begun and not results:
        raise ValueError("no tests ran")
    said = {"failing": sorted(set(failed))}
    if results:
        passed, failures, ignored = (sum(int(row[column]) for row in results) for column in range(3))
        return {"passed": passed, "failed": failures, "ignored": ignored, **said}
    # Ended before its summary: the last that began is where.
    return {"passed": text.count("... ok"), "failed": text.count("FAILED"), "unfinished": begun[-1][0], **said}


def verify(place):
    missing = None if place.golden else "there are no golden numbers (PALETTE_FIXTURES when packing, or --golden)"
    missing = missing or place.can("trainer", "verify", "--device", "--precision")
    for name, names, heads, order in GOLDEN:
        for precision in ("fp32", "tf32", "bf16"):
            command = [place.program("trainer"), "verify", "--device", place.device, "--precision", precision]
            if place.golden:
                command += ["--weights", place.golden / f"{name}.weights.safetensors"]
                command += ["--reference", place.golden / f"{name}.io.safetensors"]
            command += ["--format", names, "--image-size", "32", "--head-channels", heads]
            command += ["--attention-order", order, "--json"]
            left_out = "tf32 is a thing of GPUs" if place.cpu and precision == "tf32" else missing
            yield Command(f"verify-{name}-{precision}", command, limit=40, answers=(0, 1), missing=left_out)


def exact(place):
    config = place.config if place.cpu else place.root / "configs/small/inpainting.toml"
    steps, batch = (4, 2) if place.cpu else (40, 32)
    missing = place.can("trainer", "bench", "--exact")
    for deterministic in ("false", "true"):
        command = [place.program("trainer"), "bench", config, "--device", place.device, "--batch", batch]
        command += ["--exact", steps, "--set", f"train.deterministic={deterministic}", "--json"]
        name = "exact" if deterministic == "true" else "exact-usual"
        yield Command(name, command, limit=60, answers=(0, 1), missing=missing)


def ours(place, name, batches, limit, sets=()):
    """Training steps of the paper's network at several sizes, a failure of memory among the figures."""
    command = [place.program("trainer"), "bench", place.config, "--device", place.device]
    command += ["--precision", place.precision, "--seconds", seconds(place, 5), "--warmup", "3"]
    # The whole batch at once, whatever share of it the configuration makes.
    command += [word for change in ("train.micro_batch=0", *sets) for word in ("--set", change)]
    # A build that knows no list of sizes measures the first.
    several = place.can("trainer", "bench", "--batches") is None
    command += ["--batches", ",".join(map(str, batches))] if several else ["--batch", batches[0]]
    # The key came with --exact.
    missing = place.can("trainer", "bench", "--exact") if "train.deterministic=true" in sets else None
    return Command(name, [*command, "--json"], limit=limit, read=rows, missing=missing)


def rows(text):
    """One size or several: always a list of sizes."""
    figures = json.loads(text)
    return figures if "sizes" in figures else {"sizes": [figures]}


def sampling(place, batch):
    command = [place.program("sampler"), "bench", place.config, "--precision", place.precision]
    command += ["--process", "ddim", "--steps", "2" if place.cpu else "10", "--batch", batch]
    return Command(f"sample-{batch}", [*command, "--seconds", seconds(place, 4), "--json"], limit=40)


def loader(place):
    cores = len(os.sched_getaffinity(0))
    threads = [count for count in (1, 8, 16) if count <= cores] or [1]
    command = [place.program("pipeline"), "bench", "--dataset", place.photographs, "--rounds", "1"]
    command += ["--threads", ",".join(map(str, [1] if place.cpu else threads)), "--seconds", seconds(place, 3)]
    command += ["--size", "32", "--batch", "4"] if place.cpu else []
    missing = None if place.photographs else "there are no photographs (--photographs)"
    return Command("loader", [*command, "--json"], limit=30, missing=missing)


def fed(place):
    """Training from photographs, the loader in the loop."""
    batch, threads = (2, 1) if place.cpu else (16, max(1, len(os.sched_getaffinity(0)) - 2))
    command = [place.program("trainer"), "bench", place.config, "--device", place.device]
    command += ["--precision", place.precision, "--batch", batch, "--dataset", place.photographs]
    command += ["--set", f"data.threads={threads}", "--set", "train.micro_batch=0", "--seconds", seconds(place, 6), "--json"]
    missing = None if place.photographs else "there are no photographs (--photographs)"
    # Earlier builds take --dataset and do not read it.
    missing = missing or place.can("trainer", "bench", "--dataset", "--batches")
    return Command("fed", command, limit=60, missing=missing, read=rows)


def kernel_times(place):
    """Two steps of 2,300 launches under ncu, without its clock control and cache flushes: one is whole."""
    profiler = shutil.which("ncu")
    command = [profiler or "ncu", "--clock-control", "none", "--cache-control", "none", "--csv"]
    command += ["--metrics", "gpu__time_duration.sum", "--launch-skip", "12000", "--launch-count", "5200"]
    command += ["--kill", "yes", place.program("trainer"), "bench", place.config, "--device", "cuda"]
    command += ["--precision", place.precision, "--batch", "4", "--warmup", "1", "--seconds", "4", "--json"]
    missing = None if profiler else "there is no ncu"
    missing = "kernels run on GPUs" if place.cpu else missing
    return Command("kernels", command, limit=110, read=kernels, answers=(0, 1, 9, 143, 255, -9, -15), missing=missing)
