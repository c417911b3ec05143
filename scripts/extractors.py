#!/usr/bin/env python3
"""Makes an extractor of a torchvision model: TorchScript and the configuration that names it.

    python3 scripts/extractors.py resnet-50 --out configs/evaluation/extractors
    python3 scripts/extractors.py inception-v1 --out configs/evaluation/extractors --weights googlenet.pth

Wants torch and torchvision (any version that loads the weights). Without --weights torchvision fetches its
own. The configuration holds what the model gives for a probe picture, computed here, so that the evaluator
finds out when it feeds it anything else.
"""

import argparse
import hashlib
import pathlib

import torch
import torchvision
from torch import nn

# Name: torchvision's builder and weights, side of the pictures (shorter side, then the middle), scores.
MODELS = {
    "resnet-50": ("resnet50", "IMAGENET1K_V1", 256, 224, ["ca"]),
    "efficientnet-b0": ("efficientnet_b0", "IMAGENET1K_V1", 256, 224, ["ca"]),
    "inception-v1": ("googlenet", "IMAGENET1K_V1", 256, 224, ["pd"]),
    "vgg-16": ("vgg16", "IMAGENET1K_V1", None, None, ["lpips"]),
}
# The activations of VGG-16 that LPIPS compares.
VGG_MAPS = [3, 8, 15, 22, 29]


class Pooled(nn.Module):
    """Features before the last linear layer, and logits."""

    def __init__(self, model):
        super().__init__()
        last = "classifier" if hasattr(model, "classifier") else "fc"
        self.head = getattr(model, last)
        setattr(model, last, nn.Identity())
        self.model = model

    def forward(self, pictures):
        features = self.model(pictures)
        return features, self.head(features)


class Maps(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.layers = model.features[: VGG_MAPS[-1] + 1]

    def forward(self, pictures):
        maps = []
        for number, layer in enumerate(self.layers):
            pictures = layer(pictures)
            if number in VGG_MAPS:
                maps.append(pictures.clone())
        return tuple(maps)


def probe(side):
    """The picture whose answer goes into the configuration, u8 [1,3,side,side]."""
    y, x, c = torch.arange(side).view(1, -1, 1), torch.arange(side).view(1, 1, -1), torch.arange(3).view(-1, 1, 1)
    return ((7 * x + 13 * y + 29 * c + x * y) % 256).to(torch.uint8)[None]


def normalized(pictures):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (pictures.float() / 255 - mean) / deviation


def load(builder, weights, file, random):
    build = getattr(torchvision.models, builder)
    extra = {"init_weights": False} if builder == "googlenet" and (file or random) else {}
    if random:
        torch.manual_seed(0)
        return build(weights=None, **({"init_weights": True} if extra else {}))
    if file:
        model = build(weights=None, **extra)
        model.load_state_dict(torch.load(file, weights_only=True))
        return model
    return build(weights=weights)


def numbers(row):
    return "[" + ", ".join(f"{value:.6f}" for value in row[:8].tolist()) + "]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", default=".", type=pathlib.Path, help="folder")
    parser.add_argument("--weights", help="state dict (.pth) in place of torchvision's download")
    parser.add_argument("--random", action="store_true", help="random weights, to try the way")
    options = parser.parse_args()
    builder, weights, resize, crop, scores = MODELS[options.model]
    model = load(builder, weights, options.weights, options.random).eval()
    if builder == "googlenet":
        model.aux1 = model.aux2 = None
        model.aux_logits = False
    maps = builder == "vgg16"
    network = (Maps if maps else Pooled)(model).eval()
    side = crop or 64
    example = normalized(probe(side))
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.model}.pt"
    with torch.no_grad():
        given = network(example)
        # Two pictures, so that no shape of one is taken for good.
        torch.jit.trace(network, torch.cat([example, example])).save(str(file))
    lines = [
        f"# torchvision {torchvision.__version__}: {builder}, "
        + ("random weights" if options.random else options.weights or weights),
        "",
        f'name = "{options.model}"',
        f'file = "{file.name}"',
        f'sha256 = "{hashlib.sha256(file.read_bytes()).hexdigest()}"',
        "scores = [" + ", ".join(f'"{score}"' for score in scores) + "]",
        'input = "imagenet"',
    ]
    if crop:
        lines += [f"resize = {resize}", f"crop = {crop}"]
    if maps:
        lines += ["", "[maps]", f"outputs = {list(range(len(given)))}"]
    else:
        features, logits = given
        lines += ["", "[features]", "output = 0", f"width = {features.shape[1]}"]
        lines += ["", "[logits]", "output = 1", f"width = {logits.shape[1]}"]
        lines += ["", "[check]", f"side = {side}", f"features = {numbers(features[0])}", f"logits = {numbers(logits[0])}"]
    (options.out / f"{options.model}.toml").write_text("\n".join(lines) + "\n")
    print(options.out / f"{options.model}.toml")


if __name__ == "__main__":
    main()
