#!/usr/bin/env python3
"""The paper's experiments and all of its tables at a size that a laptop can train: one run for each task,
several tasks in one network, regression, L1 in place of L2, and the four variants of the attention
ablation. Trains a classifier to score through, queues the runs, works the queue off, samples and scores
what every table needs, and writes the tables and one report. What is done already is not done again.

    python3 scripts/experiments.py --train data/tiny/train --held-out data/tiny/val --out experiments

The datasets are made by `pipeline ingest` (see docs/experiments.md). Programs are taken from
target/release, or from PALETTE_BIN.
"""

import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("PALETTE_BIN", ROOT / "target/release"))
TABLES = sorted((ROOT / "configs/evaluation").glob("*.toml"))

# All four variants stand at the same resolutions; inpainting is what the paper compares them on.
FAR = ["model.attention=[16, 8]"]
# Name, configuration, changes. The multi-task model of the paper has no uncropping.
RUNS = [
    ("colorization", "colorization", []),
    ("colorization-l1", "colorization", ["diffusion.loss=l1"]),
    ("regression-colorization", "colorization", ["diffusion.kind=regression"]),
    ("inpainting", "inpainting", FAR),
    ("inpainting-l1", "inpainting", [*FAR, "diffusion.loss=l1"]),
    ("uncropping", "uncropping", []),
    ("jpeg", "jpeg", []),
    ("regression-jpeg", "jpeg", ["diffusion.kind=regression"]),
    ("multitask", "multitask", ["data.tasks={ colorization = 1, inpainting = 1, jpeg = 1 }"]),
    ("attention-local", "inpainting", [*FAR, "model.attention_kind=local"]),
    ("attention-more-blocks", "inpainting", [*FAR, "model.attention_kind=more_blocks"]),
    ("attention-dilated", "inpainting", [*FAR, "model.attention_kind=dilated"]),
]
# The names of the sets are the paper's; what lies there is small.
PROFILE = """\
out = "{out}/outputs"
size = {size}
extractors = ["{out}/classifier.toml"]
sampler = ["--process", "dpmpp-2m", "--steps", "10"]
kid_subset = 100
splits = 2

[sets]
imagenet-val = "{train}"
imagenet-first-5000 = "{held_out}"
imagenet-next-5000 = "{out}/next"
imagenet-ctest10k = "{held_out}"
imagenet-diversity = "{out}/diversity"
{places}
[runs]
palette-inpainting-imagenet = "{prefix}-inpainting"
attention-global = "{prefix}-inpainting"
{runs}
"""
PLACES = """\
places-val = "{distribution}"
places10k = "{places}"
places-top50 = "{places}"
places-top50-rest = "{distribution}"
places-scenery = "{places}"
"""


def run(program, *arguments, show=False):
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, text=True, stdout=None if show else subprocess.PIPE)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} ended with status {done.returncode}")
    return None if show else done.stdout


def train(options, name, config, changes):
    half, quarter = options.size // 2, options.size // 4
    changes = [
        f"name={options.prefix}-{name}",
        f"train.steps={options.steps}",
        f"train.checkpoint={{ every = {max(1, options.steps // 4)}, keep_last = 1 }}",
        f"train.validation.dataset={options.held_out}",
        f"train.validation.every={max(1, options.steps // 4)}",
        f"data.image_size={options.size}",
        f"model.attention=[{quarter}]",
        *(change.replace("[16, 8]", f"[{half}, {quarter}]") for change in changes),
        *options.set,
    ]
    sets = [part for change in changes for part in ("--set", change)]
    file = ROOT / f"configs/small/{config}.toml"
    run("trainer", "submit", file, "--dataset", options.train, *sets, "--key", f"{options.prefix}-{name}")


def cut(options, name, dataset, each):
    out = options.out / name
    if not (out / "manifest.json").exists():
        run("pipeline", "cut", dataset, "--per-class", each, "--out", out)


def profile(options):
    """The names of the tables, where they lie here. The runs of the paper are called palette-TASK."""
    names = {name: name if name.startswith(("regression", "attention")) else f"palette-{name}" for name, *_ in RUNS}
    runs = "\n".join(f'{label} = "{options.prefix}-{name}"' for name, label in names.items())
    places = ""
    if options.places:
        places = PLACES.format(places=options.places, distribution=options.places_distribution or options.places)
    text = PROFILE.format(**{**vars(options), "places": places, "runs": runs})
    file = options.out / "profile.toml"
    file.write_text(text)
    return file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="dataset to train on, with classes")
    parser.add_argument("--held-out", required=True, help="dataset of the same classes to score on")
    parser.add_argument("--places", help="dataset that stands for Places2")
    parser.add_argument("--places-distribution", help="what FID compares with there [default: the same]")
    parser.add_argument("--out", default="experiments", type=pathlib.Path)
    parser.add_argument("--steps", default=600, type=int)
    parser.add_argument("--size", default=32, type=int, help="side of the images")
    parser.add_argument("--diversity", default=5, type=int, help="images of each class for figure 7")
    parser.add_argument("--prefix", default="small", help="what the runs' names begin with")
    parser.add_argument("--set", action="append", default=[], help="change of every configuration")
    parser.add_argument("--epochs", default=20, type=int, help="of the classifier")
    options = parser.parse_args()
    for name in ("train", "held_out", "places", "places_distribution", "out"):
        place = getattr(options, name)
        setattr(options, name, place and pathlib.Path(os.path.abspath(place)))
    options.out.mkdir(parents=True, exist_ok=True)

    cut(options, "next", options.train, 40)
    cut(options, "diversity", options.held_out, options.diversity)
    if not (options.out / "classifier.toml").exists():
        run(
            "evaluator", "classifier", "--train", options.train, "--held-out", options.held_out,
            "--size", options.size, "--epochs", options.epochs, "--out", options.out / "classifier.pt", show=True,
        )
    for row in RUNS:
        train(options, *row)
    file = profile(options)
    run("evaluator", "submit", *TABLES, "--profile", file)
    run("scheduler", "worker", "--drain", "--follow", show=True)
    tables = run("evaluator", "table", *TABLES, "--profile", file, "--format", "markdown")
    (options.out / "tables.md").write_text(tables)
    run("evaluator", "report", *TABLES, "--profile", file, "--out", options.out / "report.html", "--pictures", options.out / "sheets")
    print(tables)


if __name__ == "__main__":
    main()
