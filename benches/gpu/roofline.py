"""What a training step must cost: multiply-accumulates, bytes that pass the memory, and time from both.

    python3 benches/gpu/roofline.py configs/paper/inpainting.toml --batches 1,4,8,16

The network of the configuration is unrolled as `diffusion/src/model/plan.rs` does. Two ways of computing
it in bf16 are priced: `before`, with libtorch's channels-first group norm and everything around it as
kernels of their own, and `fused`, with one channels-last kernel for norm, scale and shift, and SiLU, and
the convolutions' biases folded into their neighbours. The assumed rates are below; all else is counted.
"""

import argparse
import json
import tomllib
from collections import defaultdict
from pathlib import Path

# Rates of an H100 SXM: dense bf16 of the data sheet, convolutions, streaming kernels, kernels that turn the layout.
PEAK = 989e12
CONVOLUTIONS = 600e12
STREAM = 2.8e12
TURN = 1.4e12

# The defaults of the [model] table.
DEFAULTS = {
    "model_channels": 256,
    "channel_mult": [1, 1, 2, 2, 4, 4],
    "res_blocks": 2,
    "attention": [32, 16, 8],
    "patch": 1,
    "resblock_updown": True,
}


def read(path):
    """The [model] table with its defaults, and the side of the images."""
    table = tomllib.loads(Path(path).read_text())
    return DEFAULTS | table.get("model", {}), table.get("data", {}).get("image_size", 256)


class Unrolled:
    """Operations of one forward pass of one image, and what they add up to."""

    def __init__(self, model, image_size):
        self.width, self.patch = model["model_channels"], model["patch"]
        self.embedding = 4 * self.width
        self.attention, self.updown = model["attention"], model["resblock_updown"]
        self.convolutions = defaultdict(int)  # (side of the output, inputs, outputs, kernel, stride): how often
        self.elements = defaultdict(int)  # by kind of operation
        self.macs = self.parameters = self.linear_macs = 0
        self.unroll([self.width * factor for factor in model["channel_mult"]], model["res_blocks"], image_size)

    def unroll(self, widths, blocks, image_size):
        area = self.patch**2
        sides = [image_size // self.patch >> level for level in range(len(widths))]
        last = len(widths) - 1
        self.tail = widths[0] * sides[0] ** 2
        channels = widths[0]
        self.conv(sides[0], 6 * area, channels, 3)
        skips = [channels]
        for level, (side, width) in enumerate(zip(sides, widths)):
            for _ in range(blocks):
                self.residual(side, channels, width)
                channels = width
                self.attend(side, channels)
                skips.append(channels)
            if level < last:
                self.resized(side, side // 2, channels)
                skips.append(channels)
        self.residual(sides[-1], channels, channels)
        self.attend(sides[-1], channels, always=True)
        self.residual(sides[-1], channels, channels)
        for level in reversed(range(len(widths))):
            side, width = sides[level], widths[level]
            for number in range(blocks + 1):
                skip = skips.pop()
                self.elements["cat"] += (channels + skip) * side**2
                self.residual(side, channels + skip, width)
                channels = width
                self.attend(side, channels)
                if level > 0 and number == blocks:
                    self.resized(side, 2 * side, channels)
        self.norm(sides[0], channels)
        self.conv(sides[0], channels, 3 * area, 3)
        self.linear(self.width, self.embedding)
        self.linear(self.embedding, self.embedding)

    def conv(self, side, inputs, outputs, kernel, stride=1):
        self.convolutions[(side, inputs, outputs, kernel, stride)] += 1
        self.macs += inputs * outputs * kernel**2 * side**2
        self.parameters += inputs * outputs * kernel**2 + outputs
        self.elements["output"] += outputs * side**2

    def linear(self, inputs, outputs):
        self.macs += inputs * outputs
        self.parameters += inputs * outputs + outputs

    def norm(self, side, channels, scaled=False, silu=True):
        self.parameters += 2 * channels
        self.elements["norm"] += channels * side**2
        self.elements["scaled"] += channels * side**2 * scaled
        self.elements["silu"] += channels * side**2 * silu

    def residual(self, side, inputs, outputs, after=None):
        after = after or side
        self.norm(side, inputs)
        if after != side:
            self.elements["resampled"] += 2 * inputs * (side**2 + after**2)
        self.conv(after, inputs, outputs, 3)
        self.linear(self.embedding, 2 * outputs)
        self.norm(after, outputs, scaled=True)
        self.conv(after, outputs, outputs, 3)
        if inputs != outputs:
            self.conv(after, inputs, outputs, 1)
        self.elements["add"] += outputs * after**2

    def resized(self, side, after, channels):
        if self.updown:
            self.residual(side, channels, channels, after)
        else:
            self.conv(after, channels, channels, 3, stride=2 if after < side else 1)

    def attend(self, side, channels, always=False):
        if not always and side not in self.attention:
            return
        self.norm(side, channels, silu=False)
        self.conv(side, channels, 3 * channels, 1)
        self.macs += 2 * side**4 * channels
        self.conv(side, channels, channels, 1)
        self.elements["add"] += channels * side**2

    def largest(self, count):
        """The convolutions that most of the work is in, each with how often it occurs."""

        def work(item):
            (side, inputs, outputs, kernel, _), often = item
            return often * side**2 * inputs * outputs * kernel**2

        return sorted(self.convolutions.items(), key=work, reverse=True)[:count]

    def bytes(self, batch):
        """Of a step: {way: (bytes of streaming kernels, bytes of kernels that turn the layout)}."""
        n = {kind: batch * count for kind, count in self.elements.items()}
        norm, silu, scaled, plain = n["norm"], n["silu"], n["scaled"], n["norm"] - n["silu"]
        tail, weights = batch * self.tail, self.parameters
        around = 6 * n["add"] + 4 * n["cat"] + 2 * n["resampled"]
        around += 4 * n["add"] + 6 * n["cat"] + 2 * n["resampled"]
        update = (6 + 6 + 44) * weights  # casts, gradients to f32, Adam with the norm and the average
        before = 16 * norm  # moments, apply; sums and gradient
        before += 4 * scaled + 12 * scaled  # scale and shift
        before += 4 * silu + 4 * silu + 4 * n["output"] + 2 * n["output"]  # SiLU, biases
        before += tail * (10 + 10)  # the last convolution in f32
        turned = 16 * norm + 8 * (silu + plain) + 2 * silu + 2 * scaled + 16 * tail
        return {
            "before": (before + around + update, turned),
            "fused": (16 * norm + 2 * n["output"] + around + update, 0),
        }

    def forward(self, batch):
        """{way: seconds of one pass without gradients}; `fused` keeps the weights in bf16."""
        n = {kind: batch * count for kind, count in self.elements.items()}
        around = 6 * n["add"] + 4 * n["cat"] + 2 * n["resampled"]
        tail, convolutions = batch * self.tail, 2 * self.macs * batch / CONVOLUTIONS
        before = 6 * n["norm"] + 4 * n["scaled"] + 4 * n["silu"] + 4 * n["output"]
        before += around + 10 * tail + 6 * self.parameters
        turned = 4 * n["norm"] + 4 * n["norm"] + 8 * tail
        return {
            "before": convolutions + before / STREAM + turned / TURN,
            "fused": convolutions + (6 * n["norm"] + around) / STREAM,
        }

    def step(self, batch, convolutions=CONVOLUTIONS):
        """{way: seconds of a step and its share of the peak}; a step is three forward passes of 2 MAC."""
        flop = 6 * self.macs * batch
        figures = {}
        for way, (stream, turn) in self.bytes(batch).items():
            seconds = flop / convolutions + stream / STREAM + turn / TURN
            figures[way] = {"seconds": seconds, "bytes": stream + turn, "share": flop / seconds / PEAK}
        return figures


def main():
    parser = argparse.ArgumentParser(description="what a training step must cost on an H100")
    parser.add_argument("config", nargs="?", default="configs/paper/inpainting.toml", type=Path)
    parser.add_argument("--batches", default="1,4,8,16,24,32")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    network = Unrolled(*read(args.config))
    steps = {int(batch): network.step(int(batch)) for batch in args.batches.split(",")}
    if args.json:
        print(json.dumps({"parameters": network.parameters, "gmac": network.macs / 1e9, "steps": steps}, indent=2))
        return
    print(f"{network.parameters:,} parameters, {network.macs / 1e9:,.1f} GMAC a forward pass of an image")
    for (side, inputs, outputs, kernel, _), often in network.largest(6):
        macs = inputs * outputs * kernel**2 * side**2
        print(f"  {often:2} x {kernel}x{kernel} {inputs}->{outputs} at {side}: {macs / 1e9:.1f} GMAC each")
    for batch in (1, 16):
        passes = ", ".join(f"{way} {1000 * seconds:.1f} ms" for way, seconds in network.forward(batch).items())
        print(f"a pass of a sampler, batch {batch}: {passes}")
    for batch, ways in steps.items():
        for way, figure in ways.items():
            ms, images = 1000 * figure["seconds"], batch / figure["seconds"]
            gigabytes = figure["bytes"] / 1e9
            print(f"batch {batch:3} {way:6} {gigabytes:7.0f} GB {ms:7.1f} ms {images:6.1f} images/s {figure['share']:6.1%}")


if __name__ == "__main__":
    main()
