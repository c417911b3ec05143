"""Proves and measures everything that wants a GPU, in one run of minutes (`run.sh` calls this).

    bash run.sh                        part A in the folder that `pack.sh` made
    bash run.sh --part b               PyTorch beside it, on the same machine
    bash run.sh --part c --minutes 3   trains a small network and makes pictures with it
    bash run.sh --part d               NCCL and several ranks, on all GPUs of the machine
    bash run.sh --quick                kernels, numbers and one batch size only

Part A: ceilings of the GPU, tests and `trainer verify` on it, exact resume, throughput, share of the peak
and memory of the paper's network, kernel times, sampling, the loader, a fed run. Part B: the same network
in PyTorch, eager and compiled. Part D: what NCCL gives against known numbers, its speed, and steps by one
rank and by as many as there are GPUs. What does not fit into the time is skipped and said to be.

The folder of --out gets `results.tar.gz` (every figure as JSON, with logs), which grows with every figure,
`table.txt` and the sheets. `--device cpu` tries the script itself with tiny sizes.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import part_a
import part_b
import part_c
import part_d
import report
from phases import Phases, write

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = {"a": (part_a, 7.0), "b": (part_b, 9.0), "c": (part_c, 4.0), "d": (part_d, 5.0)}


def arguments():
    parser = argparse.ArgumentParser(
        prog="run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default="a", help="a, b, c or d, several by comma (a)")
    parser.add_argument("--minutes", type=float, help="budget of each part (7 for a, 9 for b, 4 for c, 5 for d, 2.5 with --quick)")
    parser.add_argument("--quick", action="store_true", help="of part a: kernels' tests, verify, one batch size")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"], help="cpu tries the script, with tiny sizes")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="folder for the results ($OUT, else results)")
    parser.add_argument("--work", type=Path, help="folder for unpacked programs and single figures (.bench/gpu)")
    parser.add_argument("--pack", type=Path, help="folder that pack.sh made (the script's own where it is one)")
    parser.add_argument("--bin", type=Path, help="folder of built programs, instead of a pack")
    parser.add_argument("--golden", type=Path, help="folder of golden numbers, instead of the pack's")
    parser.add_argument("--photographs", help="dataset of `pipeline ingest`, instead of the pack's")
    parser.add_argument("--small-photographs", help="dataset that part c trains on, instead of the pack's")
    parser.add_argument("--held-out", type=Path, help="folder of pictures for the sheets, instead of the pack's")
    parser.add_argument("--config", type=Path, help="experiment (configs/paper/inpainting.toml)")
    parser.add_argument("--only", default="", help="beginnings of the names of commands to run, by comma")
    args = parser.parse_args()
    args.part = [part.strip() for part in args.part.split(",")]
    for part in args.part:
        if part not in PARTS:
            parser.error(f"--part {part}: expected a, b, c or d")
    return args


def fail(message):
    sys.exit(f"error: {message}")


class Place:
    """Where everything is, and what of it there is."""

    def __init__(self, args):
        self.args, self.root, self.cpu = args, ROOT, args.device == "cpu"
        self.device, self.quick = args.device, args.quick
        self.out = Path(args.out or "results").resolve()
        self.work = (args.work or ROOT / ".bench" / "gpu").resolve()
        self.figures = self.work / "figures"
        self.python, self.pytorch = sys.executable, pytorch()
        self.torch = self.pytorch and self.pytorch["folder"]
        self.precision = "fp32" if self.cpu else "bf16"
        standard = "benches/gpu/stand-in.toml" if self.cpu else "configs/paper/inpainting.toml"
        self.config = (args.config or ROOT / standard).resolve()
        self.bin = self.tests = self.golden = self.photographs = self.small = self.held_out = None
        self.pack, self.helps = None, {}
        self.gpus = 0 if self.cpu else gpus()

    def find(self):
        """Unpacks what the pack holds; single options come before it."""
        args = self.args
        pack = args.pack or (ROOT if (ROOT / "pack.json").exists() else None)
        if args.bin:
            self.bin = args.bin.resolve()
        elif pack:
            self.pack = pack.resolve()
            self.unpacked(self.pack)
        else:
            fail("nothing to run: name a folder of pack.sh by --pack, or built programs by --bin")
        if not (self.bin / "trainer").is_file():
            fail(f"`{self.bin}` has no program `trainer`")
        for name, given in [("golden", args.golden), ("photographs", args.photographs)]:
            if given:
                setattr(self, name, Path(given).resolve())
        self.small = Path(args.small_photographs).resolve() if args.small_photographs else self.small
        self.held_out = args.held_out.resolve() if args.held_out else self.held_out
        os.environ["PALETTE_HOME"] = str(self.work / "home")
        os.environ["PALETTE_TEST_DEVICE"] = self.device
        os.environ.pop("DATABASE_URL", None)
        if self.golden:
            os.environ["PALETTE_FIXTURES"] = str(self.golden.parent)
        started = subprocess.run([self.bin / "trainer", "--version"], capture_output=True, text=True)
        if started.returncode != 0:
            fail(f"`{self.bin}/trainer` does not start: {started.stderr.strip()[-500:]}")

    def unpacked(self, pack):
        archives = [path for path in (pack / "programs.tar.xz", pack / "data.tar.xz") if path.exists()]
        if not archives:
            fail(f"`{pack}` is no folder of pack.sh: it has no programs.tar.xz")
        facts = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in archives]
        key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
        folder = self.work / f"pack-{key}"
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda path: unpack(path, folder), archives))
            (folder / ".complete").touch()
        self.bin, self.tests = folder / "bin", folder / "bin"
        # The second entry of the programs' run path: libtorch of this Python, or what LIBTORCH names.
        libtorch = self.torch or os.environ.get("LIBTORCH")
        if not libtorch:
            fail(f"`{self.python}` has no PyTorch, and LIBTORCH names none")
        link = self.bin / "libtorch"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(libtorch).resolve())
        there = lambda path: path if path.exists() else None
        self.golden, self.photographs = there(folder / "golden"), there(folder / "photographs")
        self.small, self.held_out = there(folder / "small"), there(folder / "held-out")

    def test_programs(self):
        return sorted(self.tests.glob("test-*")) if self.tests else []

    def program(self, name):
        return self.bin / name

    def can(self, program, command, *flags):
        """Nothing where this build has a command with these flags, else what it lacks."""
        key = (program, command)
        if key not in self.helps:
            try:
                run = subprocess.run([self.bin / program, command, "--help"], capture_output=True, text=True)
                self.helps[key] = run.stdout if run.returncode == 0 else ""
            except OSError:
                self.helps[key] = ""
        words = self.helps[key].replace(",", " ").split()
        lacking = [flag for flag in flags if flag not in words]
        if not words:
            return f"not available in this build: {program} {command}"
        return f"not available in this build: {program} {command} {' '.join(lacking)}" if lacking else None


def unpack(path, folder):
    with tarfile.open(path, "r:xz") as archive:
        archive.extractall(folder, filter="data")


def pytorch():
    """Folder and versions of this Python's PyTorch, where it loads."""
    code = "import json, os, torch; facts = {'folder': os.path.dirname(torch.__file__), 'version': torch.__version__}; "
    code += "print(json.dumps(facts | {'cudnn': torch.backends.cudnn.version()}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else None


def gpus():
    """Number of GPUs that a program sees."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([word for word in named.split(",") if word.strip()])
    return sum(line.startswith("GPU ") for line in output_of("nvidia-smi", "-L").splitlines())


def output_of(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def machine(place):
    """What is measured on."""
    query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit"
    gpu = output_of("nvidia-smi", query, "--format=csv,noheader", "--id=0") if not place.cpu else ""
    pack = json.loads((place.pack / "pack.json").read_text()) if place.pack else None
    return {
        "gpu": [part.strip() for part in gpu.split(",")] if gpu else None,
        "gpus": place.gpus,
        "links": output_of("nvidia-smi", "topo", "-m") if place.gpus > 1 else None,
        "device": place.device,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": place.pytorch and place.pytorch["version"],
        "cudnn": place.pytorch and place.pytorch["cudnn"],
        "trainer": output_of(place.program("trainer"), "--version"),
        "pack": pack,
    }


def main():
    args = arguments()
    place = Place(args)
    place.out.mkdir(parents=True, exist_ok=True)
    place.figures.mkdir(parents=True, exist_ok=True)
    # A run of other parts on the same machine adds to the figures that are there.
    for path in place.figures.glob("*.json"):
        if json.loads(path.read_text()).get("part") in args.part:
            path.unlink()
    running = []

    def stop(number, _):
        for phases in running:
            phases.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for number, part in enumerate(args.part):
        module, minutes = PARTS[part]
        minutes = args.minutes or (2.5 if args.quick else minutes)
        phases = Phases(part, minutes, place.figures, place.out / "results.tar.gz")
        running[:] = [phases]
        if number == 0:
            # Within the budget of the first part.
            place.find()
            write(place.figures / "machine.json", {"name": "machine", "status": "ok", "result": machine(place)})
        only = tuple(word.strip() for word in args.only.split(",") if word.strip())
        for commands, together in module.commands(place, phases):
            chosen = [command for command in commands if not only or command.name.startswith(only)]
            phases.run(*chosen, together=together)
        phases.note(f"time-{part}", minutes=phases.minutes, seconds=60 * phases.minutes - phases.left())
        if phases.stopped:
            break
    table = report.table(place.figures, place.config)
    (place.out / "table.txt").write_text(table)
    phases.pack()
    print(f"\n{table}\nresults: {place.out}", flush=True)


if __name__ == "__main__":
    main()
