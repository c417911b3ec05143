"""Measures what this GPU can do at best, with PyTorch: the ceilings of a training step.

    python3 benches/gpu/ceilings.py configs/paper/inpainting.toml --json ceilings.json

A copy within the memory, a large bf16 product, the six convolutions that most of the network's work is
in (channels last, forward and backward), and libtorch's group norm in both layouts. The file is written
again after every figure. `--small` is for trying the script where there is no GPU.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from roofline import Unrolled, read


def arguments():
    parser = argparse.ArgumentParser(description="ceilings of this GPU")
    parser.add_argument("config", type=Path, help="experiment, TOML")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--batch", default=16, type=int)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--json", required=True, type=Path, help="file for the figures")
    return parser.parse_args()


def seconds(work, device, repeats=10, warmup=3):
    """Median time of one call."""
    for _ in range(warmup):
        work()
    if device == "cpu":
        times = []
        for _ in range(repeats):
            at = time.perf_counter()
            work()
            times.append(time.perf_counter() - at)
        return statistics.median(times)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) / 1000 for a, b in zip(marks, marks[1:]))


def copy(args):
    source = torch.empty(1 << (20 if args.small else 32), dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)
    took = seconds(lambda: target.copy_(source), args.device)
    return {"seconds": took, "bytes_per_second": 2 * source.numel() / took}


def product(args):
    side = 64 if args.small else 8192
    a, b = (torch.randn(side, side, device=args.device).bfloat16() for _ in range(2))
    took = seconds(lambda: a @ b, args.device)
    return {"side": side, "seconds": took, "flop_per_second": 2 * side**3 / took}


def convolution(args, shape, often):
    side, inputs, outputs, kernel, stride = shape
    last = {"memory_format": torch.channels_last}
    x = torch.randn(args.batch, inputs, side * stride, side * stride, device=args.device).bfloat16().to(**last)
    weight = torch.randn(outputs, inputs, kernel, kernel, device=args.device).bfloat16().to(**last)
    x.requires_grad_(), weight.requires_grad_()

    def forward():
        return F.conv2d(x, weight, stride=stride, padding=kernel // 2)

    y = forward()
    gradient = torch.randn_like(y)
    flop = 2 * args.batch * side**2 * inputs * outputs * kernel**2
    with torch.no_grad():
        one = seconds(forward, args.device)
    two = seconds(lambda: torch.autograd.grad(y, (x, weight), gradient, retain_graph=True), args.device)
    return {
        "name": f"{kernel}x{kernel} {inputs}->{outputs} at {side}",
        "in_the_network": often,
        "forward_seconds": one,
        "backward_seconds": two,
        "forward_flop_per_second": flop / one,
        "backward_flop_per_second": 2 * flop / two,
    }


def group_norm(args, width, side, layout):
    """The rates count every element once read and once written, backward twice read and once written."""
    x = torch.randn(args.batch, width, side, side, device=args.device).bfloat16().to(memory_format=layout)
    x.requires_grad_()
    weight, bias = (torch.randn(width, device=args.device).bfloat16().requires_grad_() for _ in range(2))
    groups = min(32, width // 4)

    def forward():
        return F.group_norm(x, groups, weight, bias)

    y = forward()
    gradient = torch.randn_like(x)
    with torch.no_grad():
        one = seconds(forward, args.device)
    two = seconds(lambda: torch.autograd.grad(y, (x, weight, bias), gradient, retain_graph=True), args.device)
    return {
        "shape": list(x.shape),
        "forward_seconds": one,
        "backward_seconds": two,
        "forward_bytes_per_second": 4 * x.numel() / one,
        "backward_bytes_per_second": 6 * x.numel() / two,
    }


def main():
    args = arguments()
    cuda = args.device == "cuda"
    torch.backends.cudnn.benchmark = cuda
    model, image_size = read(args.config)
    figures = {"device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__}
    figures |= {"batch": args.batch, "convolutions": [], "group_norm": {}}

    def keep():
        part = args.json.with_suffix(".part")
        part.write_text(json.dumps(figures, indent=2) + "\n")
        os.replace(part, args.json)

    figures["copy"] = copy(args)
    keep()
    figures["product"] = product(args)
    keep()
    for shape, often in Unrolled(model, image_size).largest(6):
        figures["convolutions"].append(convolution(args, shape, often))
        keep()
    width, side = model["model_channels"], image_size // model["patch"]
    for name, layout in [("channels_last", torch.channels_last), ("channels_first", torch.contiguous_format)]:
        figures["group_norm"][name] = group_norm(args, width, side, layout)
        keep()


if __name__ == "__main__":
    main()
