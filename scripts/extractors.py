#!/usr/bin/env python3
"""Makes an extractor of a torchvision model: TorchScript and the configuration that names it.

    python3 scripts/extractors.py resnet-50 --out configs/evaluation/extractors
    python3 scripts/extractors.py inception-v1 --out configs/evaluation/extractors --weights googlenet.pth

Wants torch and torchvision (any version that loads the weights). Without --weights torchvision fetches its
own. The configuration holds what the model gives for a probe picture, computed here, so that the evaluator
finds out when it feeds it anything else. Where the numbers would be the same for pictures of another range or
with channels in another order, nothing is written: a check that cannot fail checks nothing.
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


def misread(side):
    """The probe as networks get it that are fed another range or order of channels, by what it is."""
    picture = probe(side).float()
    return {
        "uint8 or float255": picture,
        "unit": picture / 255,
        "signed": picture / 127.5 - 1,
        "imagenet with channels in reverse": normalized(probe(side).flip(1)),
    }


def tells_apart(right, wrong):
    """Whether the evaluator's comparison of the first numbers (TOLERANCE of probe.rs) refuses the wrong ones."""
    right, wrong = right[0, :8].double(), wrong[0, :8].double()
    return bool(((right - wrong).abs() > 5e-3 * right.abs().max().item()).any())


def check(network, side, given):
    """Ends the script where the numbers of [check] do not depend on what the network is fed with."""
    if not all(torch.isfinite(one).all() for one in given):
        raise SystemExit("error: the network gives numbers for the probe picture that are not finite")
    for what, picture in misread(side).items():
        if not any(tells_apart(right, wrong) for right, wrong in zip(given, network(picture))):
            raise SystemExit(
                f"error: the network gives the same numbers for a picture as {what}: a [check] of them would check "
                "nothing. Take other weights"
            )


def settle(model):
    """Gives random weights the statistics of a few random pictures: without them the first layers' small
    numbers fade from layer to layer, and the answer is that of the biases alone."""
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for one in model.modules():
        if isinstance(one, nn.Dropout):
            one.eval()
    with torch.no_grad():
        for _ in range(2):
            model(normalized(torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8)))
    return model


def load(builder, weights, file, random):
    build = getattr(torchvision.models, builder)
    extra = {"init_weights": False} if builder == "googlenet" and (file or random) else {}
    if random:
        torch.manual_seed(0)
        model = build(weights=None, **({"init_weights": True} if extra else {}))
        return settle(model) if builder != "vgg16" else model
    if file:
        model = build(weights=None, **extra)
        model.load_state_dict(torch.load(file, weights_only=True))
        return model
    return build(weights=weights)


def numbers(row):
    # Significant digits: six behind the point would be 0 of small numbers. TOML wants a point or an exponent.
    digits = [f"{value:.7g}" for value in row[:8].tolist()]
    return "[" + ", ".join(one if set(one) & set(".en") else one + ".0" for one in digits) + "]"


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
        if not maps:
            check(network, side, given)
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
