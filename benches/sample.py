"""Measures sampling of ours and of PyTorch on the same network and solver, in turns within one run.

A round restores a batch: bytes to floats on the device, start noise, the reverse process with the middle of
each image to be made and the rest put back after every step, floats to bytes. Ours is `sampler bench`; the
peers call the network of `torch_unet.py`, from the same configuration, without gradients:

    eager                 as one writes it first, in a plain loop (`ddim` alone)
    channels-last         the same with channels-last weights and images
    compiled              the last, its network through `torch.compile` (wants a C++ compiler)
    diffusers             channels-last, in the loop of diffusers' pipelines (`scheduler.timesteps`, `scheduler.step`)
    diffusers-compiled    the last, compiled

Without `--only` the two of diffusers take part where it is installed. Solvers: `ddim` is diffusers'
DDIMScheduler, `dpmpp-2m` its DPMSolverMultistepScheduler, `ancestral` its DDPMScheduler. Each turn is a process
of its own and begins with a round that is not counted (for what is compiled it is what compiling takes); the
figure of a turn is the median of its rounds, and times are compared turn by turn with the fastest peer.

Ours draws the noise of each image from a key of its own (decision 0003), the peers that of a batch at once.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from train_step import experiment, peak_memory

PLAIN = ["eager", "channels-last", "compiled"]
DIFFUSERS = ["diffusers", "diffusers-compiled"]
VARIANTS = [*PLAIN, *DIFFUSERS]
OURS = "ours"
SOLVERS = ["ddim", "dpmpp-2m", "ancestral"]


def arguments():
    parser = argparse.ArgumentParser(description="sampling of ours and of PyTorch, in turns")
    parser.add_argument("config", nargs="?", default="configs/demo.toml", type=Path, help="experiment, TOML")
    parser.add_argument("--sampler", default="target/release/sampler", help="our program")
    parser.add_argument("--solver", default="ddim", choices=SOLVERS)
    parser.add_argument("--batches", default="1,4,16,64", help="images at once, by comma")
    parser.add_argument("--steps", default="20", help="steps, by comma")
    parser.add_argument("--threads", default=len(os.sched_getaffinity(0)), type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--seconds", default=5.0, type=float, help="length of a turn")
    parser.add_argument("--rounds", default=3, type=int, help="turns of each")
    parser.add_argument("--only", default="", help="`ours` or variants, by comma; all where empty")
    parser.add_argument("--limit", type=float, help="seconds after which a turn is given up")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", choices=VARIANTS, help="run one variant here, print its figures as JSON")
    parser.add_argument("--batch", default=4, type=int, help="images at once of --child")
    return parser.parse_args()


# The peer: one variant in this process


def levels(args, diffusion):
    """γ of every step of our `ddim`, the noisiest first, then 1: evenly in time, log γ straight between steps."""
    import torch

    schedule = {"steps": 2000, "start": 1e-6, "end": 0.01} | diffusion.get("training", {})
    betas = torch.linspace(schedule["start"], schedule["end"], schedule["steps"], dtype=torch.float64)
    logs = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(torch.log1p(-betas), 0)])
    times = torch.linspace(schedule["steps"], 0, args.steps + 1, dtype=torch.float64)
    below = times.floor().long().clamp(max=schedule["steps"] - 1)
    return torch.lerp(logs[below], logs[below + 1], times - below).exp().tolist(), times.tolist()


def solver(args, diffusion):
    """diffusers' scheduler for our schedule and objective."""
    import numpy as np
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    name = "sampling" if args.solver == "ancestral" else "training"
    usual = {
        "training": {"steps": 2000, "start": 1e-6, "end": 0.01},
        "sampling": {"steps": 1000, "start": 1e-4, "end": 0.09},
    }
    schedule = usual[name] | diffusion.get(name, {})
    betas = np.linspace(schedule["start"], schedule["end"], schedule["steps"])
    kinds = {"epsilon": "epsilon", "v": "v_prediction", "y0": "sample"}
    options = {
        "num_train_timesteps": schedule["steps"],
        "trained_betas": betas,
        "prediction_type": kinds[diffusion.get("prediction", "epsilon")],
    }
    if args.solver == "ancestral":
        return DDPMScheduler(**options, clip_sample=False)
    if args.solver == "ddim":
        return DDIMScheduler(**options, clip_sample=True, set_alpha_to_one=True)
    return DPMSolverMultistepScheduler(**options, final_sigmas_type="zero", solver_order=2)


class Peer:
    """Bytes to bytes, as PyTorch's users have it."""

    def __init__(self, args, table):
        import torch
        from torch_unet import Model, UNet

        self.torch = torch
        self.device = torch.device(args.device)
        self.bf16 = args.precision == "bf16"
        layout = torch.contiguous_format if args.child == "eager" else torch.channels_last
        self.layout = layout
        side = table.get("data", {}).get("image_size", 256)
        model = Model(**table.get("model", {}))
        self.condition_first = model.condition_first
        self.timestep = model.noise_embedding == "timestep"
        with self.device:
            self.network = UNet(model, side).to(memory_format=layout).eval()
        if args.child.endswith("compiled"):
            self.network.compile(dynamic=False)
        diffusion = table.get("diffusion", {})
        self.prediction = diffusion.get("prediction", "epsilon")
        self.steps, self.scheduler = args.steps, None
        if args.child in DIFFUSERS:
            self.scheduler = solver(args, diffusion)
        else:
            self.gammas, self.times = levels(args, diffusion)
        self.bytes = torch.randint(0, 256, (args.batch, 3, side, side), dtype=torch.uint8)
        self.mask = torch.zeros(args.batch, 1, side, side, dtype=torch.uint8)
        self.mask[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = 1

    def restore(self):
        torch, device = self.torch, self.device
        source = self.bytes.to(device).float().div_(127.5).sub_(1)
        mask = self.mask.to(device).float()
        condition = torch.lerp(source, torch.randn_like(source), mask)
        y = torch.lerp(source, torch.randn_like(source), mask)
        walk = self.with_diffusers if self.scheduler else self.plain
        y = walk(y, condition, lambda y: torch.lerp(source, y, mask))
        return y.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).cpu()


    def output(self, y, condition, level):
        """The network's answer to a noisy image, in f32."""
        torch = self.torch
        pair = [condition, y] if self.condition_first else [y, condition]
        x = torch.cat(pair, dim=1).contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.network(x, level.expand(len(y))).float()

    def plain(self, y, condition, known):
        """DDIM without noise: ŷ0 clipped, and the noise that fits it."""
        levels = self.torch.tensor(self.times if self.timestep else self.gammas, device=self.device).view(-1, 1)
        for number, (gamma, after) in enumerate(zip(self.gammas, self.gammas[1:])):
            output = self.output(y, condition, levels[number])
            signal, sigma = gamma**0.5, (1 - gamma) ** 0.5
            y0 = {
                "epsilon": lambda: (y - sigma * output) / signal,
                "v": lambda: signal * y - sigma * output,
                "y0": lambda: output,
            }[self.prediction]().clamp_(-1, 1)
            epsilon = (y - signal * y0) / sigma
            y = known(after**0.5 * y0 + (1 - after) ** 0.5 * epsilon)
        return y

    def with_diffusers(self, y, condition, known):
        self.scheduler.set_timesteps(self.steps, device=self.device)
        for t in self.scheduler.timesteps:
            gamma = self.scheduler.alphas_cumprod[int(t)].to(self.device).float()
            output = self.output(y, condition, (t if self.timestep else gamma).float().reshape(1))
            y = known(self.scheduler.step(output, t, y).prev_sample)
        return y


def child(args):
    import torch

    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = args.device == "cuda"
    args.steps = int(args.steps)
    peer = Peer(args, experiment(args.config, []))
    times, started = [], None
    with torch.inference_mode():
        while started is None or len(times) < 4 or time.perf_counter() - started < args.seconds:
            at = time.perf_counter()
            peer.restore()
            times.append(time.perf_counter() - at)
            started = started or time.perf_counter()
    cuda = args.device == "cuda"
    figures = {
        "seconds": statistics.median(times[1:]),
        "first_seconds": times[0],
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else peak_memory(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
    }
    print(json.dumps(figures))


# The driver: turns of all contenders


def turn(args, name, batch, steps):
    """Seconds of a batch and peak memory in a fresh process; `failed` where memory did not suffice."""
    if name == OURS:
        options = ["--process", args.solver, "--steps", steps, "--batch", batch, "--threads", args.threads]
        options += ["--seconds", args.seconds, "--precision", args.precision, "--json"]
        command = [args.sampler, "bench", args.config, *options]
    else:
        options = ["--solver", args.solver, "--steps", steps, "--batch", batch, "--threads", args.threads]
        options += ["--seconds", args.seconds, "--precision", args.precision, "--device", args.device]
        command = [sys.executable, Path(__file__).resolve(), args.config, *options, "--child", name]
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [str(word) for word in command]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {args.limit:g} s"}
    if result.returncode == 0 and "memory does not suffice" not in result.stderr:
        return json.loads(result.stdout)
    if "memory" in result.stderr.lower():
        return {"failed": "out of memory"}
    if name.endswith("compiled") and "torch._inductor" in result.stderr:
        # A machine without a compiler still measures the others.
        return {"failed": f"does not compile: {result.stderr.strip().splitlines()[-1][:200]}"}
    sys.exit(f"error: {name} at batch {batch} ended with {result.returncode}:\n{result.stderr[-2000:].rstrip()}")


def usual(args):
    """All peers that this solver and this Python have."""
    plain = PLAIN if args.solver == "ddim" else []
    peers = [*plain, *DIFFUSERS] if importlib.util.find_spec("diffusers") else plain
    if not peers:
        sys.exit(f"error: --solver {args.solver} has peers in diffusers alone, which this Python lacks")
    return peers


def write(args, results):
    """All figures so far, so that none is lost where a later size does not end well."""
    if args.json:
        facts = {"config": str(args.config), "solver": args.solver, "results": results}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


def main():
    args = arguments()
    if args.child in PLAIN and args.solver != "ddim":
        sys.exit(f"error: --solver {args.solver}: `{args.child}` knows ddim alone")
    if args.child:
        return child(args)
    only = [word.strip() for word in args.only.split(",") if word.strip()]
    names = only or [OURS, *usual(args)]
    results = []
    print(f"{args.config}, {args.solver}, {args.device}, {args.precision}, {args.threads} threads")
    print(f"{'steps':>6} {'batch':>6} {'contender':<14} {'images/s':>10} {'peak memory':>12}  ours against it")
    for steps in map(int, args.steps.split(",")):
        for batch in map(int, args.batches.split(",")):
            turns = {name: [] for name in names}
            for number in range(args.rounds):
                # Everyone begins a round once.
                order = names[number % len(names) :] + names[: number % len(names)]
                for name in order:
                    turns[name].append(turn(args, name, batch, steps))
            for name, figures in turns.items():
                failed = next((figure["failed"] for figure in figures if "failed" in figure), None)
                if failed:
                    print(f"{steps:>6} {batch:>6} {name:<14} {failed:>10}")
                    results.append({"steps": steps, "batch": batch, "name": name, "failed": failed})
                    continue
                seconds = [figure["seconds"] for figure in figures]
                memory = statistics.median(figure["peak_memory_bytes"] for figure in figures)
                ratios = []
                if OURS in turns and name != OURS and not any("failed" in figure for figure in turns[OURS]):
                    ratios = sorted(one / our["seconds"] for one, our in zip(seconds, turns[OURS]))
                rate = batch / statistics.median(seconds)
                against = ""
                if ratios:
                    against = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) times as fast"
                print(f"{steps:>6} {batch:>6} {name:<14} {rate:>10.2f} {memory / 1e6:>9.0f} MB  {against}", flush=True)
                results.append(
                    {
                        "steps": steps,
                        "batch": batch,
                        "name": name,
                        "images_per_second": rate,
                        "seconds": seconds,
                        "first_seconds": figures[0].get("first_seconds"),
                        "peak_memory_bytes": memory,
                        "ours_times_as_fast": ratios,
                        "device": figures[0]["device"],
                    }
                )
            write(args, results)


if __name__ == "__main__":
    main()
