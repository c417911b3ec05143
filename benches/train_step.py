"""Measures one training step of ours and of PyTorch on the same network, in turns within one run.

A step is Algorithm 1 of the paper: bytes to floats on the device, noise levels, noising, the network, the
masked squared error, backward, Adam and the moving average of the weights; the batch lies in memory. Ours
is `trainer bench`; the peers train the network of `torch_unet.py`, from the same configuration:

    eager                      as one writes it first: `Adam` with its defaults, a loop for the average
    eager-fused                fused Adam, the average in one call
    eager-fused-channels-last  the same with channels-last weights and images
    compiled                   the last, its network through `torch.compile` (wants a C++ compiler)

With `--precision bf16` the peers run under autocast. Each turn is a process of its own, so that its peak
memory (VmHWM; on CUDA what the allocator gave out) is that of one contender; it begins with steps that
are not counted. The step is the median of a turn, the figure the median of the turns; times are compared
round by round, with the peer whose median is best, and of these ratios the median counts: what else the
machine does passes over neighbours alike. Memory is compared with the leanest peer. On CUDA a step lasts
from the end of the one before to its own, by events, with the host at most one step ahead.

The first step of a turn is reported by itself: for `compiled` it is what compiling takes.

`--peer-wait` says how the peers' OpenMP threads wait: `active` is libtorch's default, better on a quiet
machine; `passive` lets them sleep at once; `both` measures both.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

STAGES = ("prepare", "forward", "backward", "optimizer", "ema")
VARIANTS = ["eager", "eager-fused", "eager-fused-channels-last", "compiled"]
OURS = "ours"


def arguments():
    parser = argparse.ArgumentParser(description="one training step of ours and of PyTorch, in turns")
    parser.add_argument("config", nargs="?", default="configs/demo.toml", type=Path, help="experiment, TOML")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of it")
    parser.add_argument("--trainer", default="target/release/trainer", help="our program")
    parser.add_argument("--batches", default="1,4,16,32", help="images a step, by comma")
    parser.add_argument("--threads", default=len(os.sched_getaffinity(0)), type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--seconds", default=5.0, type=float, help="length of a turn")
    parser.add_argument("--warmup", default=3, type=int, help="steps of a turn that are not counted")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--only", default="", help="`ours`, `torch` or variants, by comma; all where empty")
    parser.add_argument("--limit", type=float, help="seconds after which a turn is given up")
    parser.add_argument("--peer-wait", default="active", choices=["active", "passive", "both"])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", choices=VARIANTS, help="run one variant here, print its figures as JSON")
    parser.add_argument("--batch", default=4, type=int, help="images a step of --child")
    return parser.parse_args()


def experiment(path, changes):
    """The configuration file with `key=value` changes, as our programs read it."""
    table = tomllib.loads(path.read_text())
    for change in changes:
        key, _, text = change.partition("=")
        *keys, last = key.strip().split(".")
        inside = table
        for name in keys:
            inside = inside.setdefault(name, {})
        try:
            inside[last] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            inside[last] = text
    return table


# The peer: one variant in this process


class Peer:
    """A training step in stages, each of which leaves behind what the next one takes."""

    def __init__(self, args, table):
        import torch
        from torch_unet import Model, UNet

        self.torch = torch
        self.device = torch.device(args.device)
        self.bf16 = args.precision == "bf16"
        self.fused = args.child != "eager"
        last = args.child in ("eager-fused-channels-last", "compiled")
        self.layout = torch.channels_last if last else torch.contiguous_format
        train, diffusion = table.get("train", {}), table.get("diffusion", {})
        self.prediction = diffusion.get("prediction", "epsilon")
        usual = {"kind": "diffusion", "loss": "l2", "weighting": "none", "residual": False}
        for key, value in usual.items():
            if diffusion.get(key, value) != value:
                sys.exit(f"error: diffusion.{key}: only `{value}` is compared")

        # Network, optimizer, moving average.
        side = table.get("data", {}).get("image_size", 256)
        model = Model(**table.get("model", {}))
        self.condition_first = model.condition_first
        self.timestep = model.noise_embedding == "timestep"
        with self.device:
            self.network = UNet(model, side).to(memory_format=self.layout).train()
        self.parameters = list(self.network.parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.decay = train.get("ema", 0.9999)
        self.clip = train.get("clip", 0.0)
        self.adam = torch.optim.Adam(
            self.parameters,
            lr=train.get("learning_rate", 1e-4),
            betas=tuple(train.get("betas", (0.9, 0.999))),
            fused=True if self.fused else None,
        )
        if args.child == "compiled":
            self.network.compile(dynamic=False)

        # γ of the training schedule, and a batch as a loader gives it: bytes in memory.
        schedule = {"steps": 2000, "start": 1e-6, "end": 0.01} | diffusion.get("training", {})
        betas = torch.linspace(schedule["start"], schedule["end"], schedule["steps"], dtype=torch.float64)
        gammas = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])
        self.gammas = gammas.float().to(self.device)
        self.bytes = [self.image((args.batch, 3, side, side)) for _ in range(2)]
        mask = torch.zeros(args.batch, 1, side, side, dtype=torch.uint8)
        mask[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = 1
        holes = round(args.batch * share_of_holes(table))
        mask[holes:] = 1
        self.bytes.append(self.pinned(mask))
        self.hole = torch.tensor([index < holes for index in range(args.batch)], device=self.device).view(-1, 1, 1, 1)
        self.holes = holes

    def image(self, shape):
        return self.pinned(self.torch.randint(0, 256, shape, dtype=self.torch.uint8))

    def pinned(self, tensor):
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def prepare(self):
        """Images in [-1,1], noise, what the network sees and what it should say."""
        torch = self.torch
        target, source, self.mask = (tensor.to(self.device, non_blocking=True).float() for tensor in self.bytes)
        target, source = target.div_(127.5).sub_(1), source.div_(127.5).sub_(1)
        step = torch.randint(1, len(self.gammas), (len(target),), device=self.device)
        within = torch.rand(len(target), device=self.device)
        gamma = torch.lerp(self.gammas[step - 1], self.gammas[step], within)
        signal, sigma = gamma.sqrt().view(-1, 1, 1, 1), (1 - gamma).sqrt().view(-1, 1, 1, 1)
        epsilon = torch.randn_like(target)
        noisy, condition = torch.addcmul(target * signal, epsilon, sigma), source
        if self.holes:
            noisy = torch.lerp(target, noisy, torch.maximum(self.mask, (~self.hole).float()))
            condition = torch.lerp(source, torch.randn_like(source), self.mask * self.hole)
        pair = [condition, noisy] if self.condition_first else [noisy, condition]
        self.x = torch.cat(pair, dim=1).contiguous(memory_format=self.layout)
        self.noise = (step - 1 + within).float() if self.timestep else gamma
        answers = {"epsilon": lambda: epsilon, "v": lambda: signal * epsilon - sigma * target, "y0": lambda: target}
        self.answer = answers[self.prediction]()

    def forward(self):
        """The masked squared error: a mean over the pixels of an image, then over images."""
        with self.torch.autocast(self.device.type, self.torch.bfloat16, enabled=self.bf16):
            output = self.network(self.x, self.noise)
        error = (output.float() - self.answer).square() * self.mask
        pixels = self.mask.sum((1, 2, 3)).clamp(min=1) * 3
        self.loss = (error.sum((1, 2, 3)) / pixels).mean()

    def backward(self):
        self.loss.backward()

    def optimizer(self):
        if self.clip > 0:
            self.torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def ema(self):
        with self.torch.no_grad():
            if self.fused:
                self.torch._foreach_lerp_(self.average, self.parameters, 1 - self.decay)
            else:
                for average, parameter in zip(self.average, self.parameters):
                    average.lerp_(parameter, 1 - self.decay)


def share_of_holes(table):
    """How many of the images are inpainted or uncropped, by the weights of the tasks."""
    tasks = table.get("data", {}).get("tasks", {"inpainting": 1})
    return sum(tasks.get(task, 0) for task in ("inpainting", "uncropping")) / sum(tasks.values())


def mark(torch, device):
    """This moment, on the device."""
    if device.type == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start, end):
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000


def child(args):
    import torch

    torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    torch.backends.cudnn.benchmark = cuda
    if cuda and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no CUDA device")
    peer = Peer(args, experiment(args.config, args.set))
    stages = [getattr(peer, name) for name in STAGES]
    steps, until, before = [], None, peak_memory()
    began, first = time.perf_counter(), None
    try:
        while until is None or len(steps) < args.warmup + 3 or time.perf_counter() < until:
            marks = [steps[-1][-1] if steps else mark(torch, peer.device)]
            for stage in stages:
                stage()
                marks.append(mark(torch, peer.device))
            if cuda and steps:
                steps[-1][-1].synchronize()
            if first is None:
                if cuda:
                    torch.cuda.synchronize()
                first = time.perf_counter() - began
            steps.append(marks)
            if until is None and len(steps) >= args.warmup:
                if cuda:
                    torch.cuda.synchronize()
                until = time.perf_counter() + args.seconds
        loss = peer.loss.item()
    except torch.OutOfMemoryError:
        print(json.dumps({"batch": args.batch, "failed": "out of memory"}))
        return
    if loss != loss:
        sys.exit(f"error: {args.child}: the loss is no number any more")
    counted = steps[args.warmup :]
    seconds = statistics.median(between(marks[0], marks[-1]) for marks in counted)
    figures = {
        "batch": args.batch,
        "threads": args.threads,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "precision": args.precision,
        "torch": torch.__version__,
        "steps": len(counted),
        "seconds_per_step": seconds,
        "images_per_second": args.batch / seconds,
        "first_step_seconds": first,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else peak_memory(),
        "host_memory_before_bytes": before,
        "stages": {
            name: statistics.median(between(marks[number], marks[number + 1]) for marks in counted)
            for number, name in enumerate(STAGES)
        },
    }
    print(json.dumps(figures))


def peak_memory():
    """Most bytes that this process ever had in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# The driver: turns of all contenders


def turn(args, name, batch):
    """Figures of one turn in a fresh process; `failed` among them where it does not fit into memory."""
    variant, _, wait = name.partition(", ")
    options = ["--batch", batch, "--threads", args.threads, "--seconds", args.seconds, "--warmup", args.warmup]
    options += ["--device", args.device, "--precision", args.precision]
    options += [word for change in args.set for word in ("--set", change)]
    if variant == OURS:
        # All images at once, as the peers have them.
        command = [args.trainer, "bench", args.config, *options, "--set", "train.micro_batch=0", "--json"]
    else:
        command = [sys.executable, Path(__file__).resolve(), args.config, *options, "--child", variant]
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    if wait:
        environment["OMP_WAIT_POLICY"] = wait
    command = [str(word) for word in command]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return {"batch": batch, "failed": f"not done in {args.limit:g} s"}
    if result.returncode == 0:
        return json.loads(result.stdout)
    if result.returncode == -9 or "out of memory" in result.stderr.lower():
        return {"batch": batch, "failed": "out of memory"}
    if variant == "compiled" and "torch._inductor" in result.stderr:
        # A machine without a compiler still measures the others.
        return {"batch": batch, "failed": f"does not compile: {result.stderr.strip().splitlines()[-1][:200]}"}
    sys.exit(f"error: {name} at batch {batch} ended with {result.returncode}:\n{result.stderr[-2000:].rstrip()}")


def contenders(args):
    """Names of all that take turns: ours and the variants, `, passive` where their threads sleep."""
    words = [word.strip() for word in args.only.split(",") if word.strip()]
    for word in words:
        if word not in (OURS, "torch", *VARIANTS):
            sys.exit(f"error: --only {word}: allowed are `{OURS}`, `torch`, {', '.join(VARIANTS)}")
    peers = VARIANTS if not words or "torch" in words else [name for name in VARIANTS if name in words]
    waits = {"active": [""], "passive": [", passive"], "both": ["", ", passive"]}[args.peer_wait]
    names = [name + wait for name in peers for wait in waits]
    if words and OURS not in words:
        return names
    try:
        there = subprocess.run([args.trainer, "bench", "--help"], capture_output=True).returncode == 0
    except OSError:
        there = False
    if not there:
        sys.exit(
            f"error: `{args.trainer} bench` does not run: `make build` first, or --only torch for PyTorch alone"
        )
    return [OURS, *names]


def summary(turns):
    """The medians over the turns of one contender."""
    if any("failed" in figures for figures in turns):
        return {"failed": next(figures["failed"] for figures in turns if "failed" in figures)}
    rounds = [figures["seconds_per_step"] for figures in turns]
    seconds = statistics.median(rounds)
    return {
        **{key: value for key, value in turns[0].items() if key in ("device", "torch", "host_memory_before_bytes")},
        "rounds": rounds,
        "seconds_per_step": seconds,
        "images_per_second": turns[0]["batch"] / seconds,
        "first_step_seconds": turns[0].get("first_step_seconds"),
        "peak_memory_bytes": statistics.median(figures["peak_memory_bytes"] for figures in turns),
        "stages": {name: statistics.median(figures["stages"][name] for figures in turns) for name in STAGES},
    }


def report(batch, figures):
    """A table of one batch size; time against the fastest peer, memory against the leanest."""
    peers = [value for name, value in figures.items() if name != OURS and "failed" not in value]
    fastest = min(peers, key=lambda value: value["seconds_per_step"], default=None)
    leanest = min((value["peak_memory_bytes"] for value in peers), default=None)
    stages = " ".join(f"{name:>9}" for name in STAGES)
    head = "".join(f" {name:>9}" for name in ("ms/step", "least", "most", "images/s"))
    print(f"\nbatch {batch:<28}{head} {'time':>6} {'MB':>7} {'memory':>6}  ms: {stages}")
    for name, value in sorted(figures.items(), key=lambda item: item[1].get("seconds_per_step", float("inf"))):
        if "failed" in value:
            print(f"{name:34} {value['failed']}")
            continue
        rounds, memory = value["rounds"], value["peak_memory_bytes"]
        times = "".join(f" {1000 * seconds:9.1f}" for seconds in (value["seconds_per_step"], min(rounds), max(rounds)))
        ratio = statistics.median(a / b for a, b in zip(rounds, fastest["rounds"])) if fastest else math.nan
        share = memory / leanest if leanest else math.nan
        stages = " ".join(f"{1000 * value['stages'][name]:9.2f}" for name in STAGES)
        images = value["images_per_second"]
        print(f"{name:34}{times} {images:9.1f} {ratio:6.2f} {memory / 1e6:7.0f} {share:6.2f}      {stages}")


def main():
    args = arguments()
    if args.child:
        return child(args)
    names = contenders(args)
    batches = [int(word) for word in args.batches.split(",")]
    print(f"{args.config}, {args.device}, {args.precision}, {args.threads} threads", file=sys.stderr)
    results = {}
    for batch in batches:
        turns = {name: [] for name in names}
        for number in range(args.rounds):
            for name in names:
                if any("failed" in figures for figures in turns[name]):
                    continue
                figures = turn(args, name, batch)
                turns[name].append(figures)
                said = figures.get("failed") or f"{1000 * figures['seconds_per_step']:.1f} ms"
                print(f"batch {batch}, round {number + 1}: {name}: {said}", file=sys.stderr, flush=True)
        results[batch] = {name: summary(turns[name]) for name in names}
        report(batch, results[batch])
        if args.json:
            write(args, results)


def write(args, results):
    """All figures so far, so that none is lost where a later batch size does not end well."""
    settings = {name: getattr(args, name) for name in ("set", "device", "precision", "threads", "seconds", "rounds")}
    facts = {"config": str(args.config), **settings, "machine": platform.machine(), "batches": results}
    args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
