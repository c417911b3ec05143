"""The ADM (guided-diffusion) U-Net in plain PyTorch, built from the `[model]` table of an experiment.

It is what `train_step.py` measures our network against: the same layers with the same names in the state
dict, written as one would today: attention by `scaled_dot_product_attention` over pixels that lie last but
one, so that nothing is copied in channels-last memory; group norm in fp32 where autocast wants it.

    python benches/torch_unet.py --golden DIR    outputs and blocks against stored ones, to 1e-4
    python benches/torch_unet.py configs/demo.toml    parameters and multiply-accumulates of a configuration

DIR holds, for each NAME, `NAME.json` (hyper-parameters), `NAME.weights.safetensors` and
`NAME.io.safetensors`: `adm_small` and `adm_newattn` by ADM's own code, `janspiry_small` by the best-known
PyTorch Palette, whose network is the same with γ for the time step.
"""

import argparse
import json
import math
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Model:
    """The `[model]` table; the defaults are those of our configuration, the paper's 256×256 network."""

    model_channels: int = 256
    channel_mult: tuple = (1, 1, 2, 2, 4, 4)
    res_blocks: int = 2
    attention: tuple = (32, 16, 8)
    head_channels: int = 64
    norm_groups: int = 32
    dropout: float = 0.0
    noise_embedding: str = "gamma"
    attention_order: str = "legacy"
    patch: int = 1
    resblock_updown: bool = True
    condition_first: bool = False


class ResBlock(nn.Module):
    """Two convolutions; the noise level scales and shifts between them. Perhaps halves or doubles the sides."""

    def __init__(self, model, channels, out, resample=None):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(model.norm_groups, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * model.model_channels, 2 * out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(model.norm_groups, out),
            nn.SiLU(),
            nn.Dropout(model.dropout),
            zero(nn.Conv2d(out, out, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def resized(self, x):
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def forward(self, x, embedding):
        norm, activation, convolution = self.in_layers
        h = convolution(self.resized(activation(norm(x))))
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        norm, activation, dropout, convolution = self.out_layers
        h = torch.addcmul(shift, norm(h), 1 + scale)
        return self.skip_connection(self.resized(x)) + convolution(dropout(activation(h)))


class Attention(nn.Module):
    """Self-attention over all pixels. The weights are those of one-dimensional convolutions."""

    def __init__(self, model, channels):
        super().__init__()
        self.heads = channels // model.head_channels
        self.legacy = model.attention_order == "legacy"
        self.norm = nn.GroupNorm(model.norm_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero(nn.Conv1d(channels, channels, 1))

    def forward(self, x):
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        qkv = F.linear(pixels, self.qkv.weight.squeeze(-1), self.qkv.bias)
        # Each of q, k, v becomes [B, heads, pixels, channels of a head].
        if self.legacy:
            q, k, v = qkv.unflatten(2, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        else:
            q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out = F.linear(mixed, self.proj_out.weight.squeeze(-1), self.proj_out.bias)
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Block(nn.Sequential):
    """Layers in a row, of which residual blocks also see the noise level."""

    def forward(self, x, embedding):
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """f(x, noise): x [B,6,H,W] is noisy image and condition, noise [B] is γ or the time step; gives [B,3,H,W]."""

    def __init__(self, model, image_size):
        super().__init__()
        self.model = model
        width, area = model.model_channels, model.patch**2
        widths = [width * factor for factor in model.channel_mult]
        sides = [image_size // model.patch >> level for level in range(len(widths))]
        last = len(widths) - 1
        self.time_embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))

        def attention(side, channels):
            return [Attention(model, channels)] if side in model.attention else []

        channels = widths[0]
        self.input_blocks = nn.ModuleList([Block(nn.Conv2d(6 * area, channels, 3, padding=1))])
        skips = [channels]
        for level, (side, out) in enumerate(zip(sides, widths)):
            for _ in range(model.res_blocks):
                self.input_blocks.append(Block(ResBlock(model, channels, out), *attention(side, out)))
                channels = out
                skips.append(channels)
            if level < last:
                down = ResBlock(model, out, out, "down") if model.resblock_updown else Downsample(out)
                self.input_blocks.append(Block(down))
                skips.append(channels)

        self.middle_block = Block(
            ResBlock(model, channels, channels), Attention(model, channels), ResBlock(model, channels, channels)
        )

        self.output_blocks = nn.ModuleList()
        for level, (side, out) in reversed(list(enumerate(zip(sides, widths)))):
            for number in range(model.res_blocks + 1):
                layers = [ResBlock(model, channels + skips.pop(), out), *attention(side, out)]
                channels = out
                if level > 0 and number == model.res_blocks:
                    layers.append(ResBlock(model, out, out, "up") if model.resblock_updown else Upsample(out))
                self.output_blocks.append(Block(*layers))

        self.out = nn.Sequential(
            nn.GroupNorm(model.norm_groups, channels), nn.SiLU(), zero(nn.Conv2d(channels, 3 * area, 3, padding=1))
        )
        frequencies = torch.exp(torch.arange(width // 2) * -math.log(10_000) / (width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def embedding(self, noise):
        """[B] to [B, 4 times the first width]: sinusoids, then two linear layers."""
        kind = self.model.noise_embedding
        if kind == "sqrt_gamma":
            noise = 1000 * noise.sqrt()
        elif kind == "log_snr":
            noise = noise.clamp(1e-8, 1 - 1e-7).logit()
        elif kind not in ("gamma", "timestep"):
            raise ValueError(f"model.noise_embedding: `{kind}` is not known")
        angles = noise[:, None] * self.frequencies
        return self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))

    def forward(self, x, noise):
        embedding = self.embedding(noise)
        h = F.pixel_unshuffle(x, self.model.patch) if self.model.patch > 1 else x
        skips = []
        for block in self.input_blocks:
            h = block(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        y = self.out(h)
        return F.pixel_shuffle(y, self.model.patch) if self.model.patch > 1 else y


def zero(module):
    """The last layer of a branch begins at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


# Checks


def stored(folder, name):
    """Network, names and values of its stored inputs and outputs."""
    from safetensors.torch import load_file

    facts = json.loads((folder / f"{name}.json").read_text())
    weights = load_file(folder / f"{name}.weights.safetensors")
    tensors = load_file(folder / f"{name}.io.safetensors")
    if "unet" in facts:
        unet = facts["unet"]
        channels, factors, rates = unet["inner_channel"], unet["channel_mults"], unet["attn_res"]
        weights = {key.removeprefix("denoise_fn.").replace("cond_embed", "time_embed"): value
                   for key, value in weights.items() if key.startswith("denoise_fn.")}
        tensors["x"] = torch.cat([tensors["cond"], tensors["denoise.y_noisy"]], dim=1)
        tensors["noise"], tensors["y"] = tensors["denoise.gamma"][:, 0], tensors["denoise.output"]
    else:
        unet = facts
        channels, factors, rates = unet["model_channels"], unet["channel_mult"], unet["attention_resolutions"]
        tensors["noise"] = tensors["timestep"]
    size = unet["image_size"]
    model = Model(
        model_channels=channels,
        channel_mult=tuple(factors),
        res_blocks=unet.get("num_res_blocks", unet.get("res_blocks")),
        attention=tuple(size // rate for rate in rates),
        head_channels=unet["num_head_channels"],
        noise_embedding=facts["noise_input"],
        attention_order=facts.get("attention_order", "legacy"),
    )
    network = UNet(model, size).eval()
    network.load_state_dict(weights)
    return network, tensors


@torch.no_grad()
def check(folder, name, tolerance=1e-4):
    """Largest difference in the output, and in any block."""
    network, tensors = stored(folder, name)
    blocks = {}
    for key, module in network.named_modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda _, __, output, key=key: blocks.update({key: output}))
    y = network(tensors["x"], tensors["noise"])
    off = (y - tensors["y"]).abs().max().item()
    kept = {key.removeprefix("activation."): value for key, value in tensors.items() if key.startswith("activation.")}
    inside = max(((blocks[key] - value).abs().max().item() for key, value in kept.items()), default=0.0)
    verdict = "ok" if max(off, inside) <= tolerance else "WRONG"
    print(f"{name}: output off by {off:.1e}, {len(kept)} blocks by {inside:.1e}: {verdict}")
    return verdict == "ok"


def count(path):
    """Prints what a configuration costs, to be held against `trainer check`."""
    from torch.utils.flop_counter import FlopCounterMode

    table = tomllib.loads(path.read_text())
    side = table.get("data", {}).get("image_size", 256)
    with torch.device("meta"):
        network = UNet(Model(**table.get("model", {})), side)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 6, side, side), torch.zeros(1))
    parameters = list(network.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    gmac = counter.get_total_flops() / 2e9
    print(f"{path}: {total:,} parameters in {len(parameters)} tensors, {gmac:,.6f} GMAC")


def main():
    parser = argparse.ArgumentParser(description="checks the PyTorch network of the benchmark")
    parser.add_argument("configs", nargs="*", type=Path, help="experiments whose network is to be counted")
    parser.add_argument("--golden", type=Path, metavar="DIR", help="folder of stored tensors")
    args = parser.parse_args()
    for path in args.configs:
        count(path)
    if args.golden:
        names = ("adm_small", "adm_newattn", "janspiry_small")
        results = [check(args.golden, name) for name in names if (args.golden / f"{name}.json").exists()]
        if not results or not all(results):
            sys.exit(f"error: {args.golden}: {'outputs differ' if results else 'no stored tensors there'}")


if __name__ == "__main__":
    main()
