#!/usr/bin/env python3
"""The paper's experiments at a size that a laptop can train: one run for each task, several tasks in
one network, the regression baseline, L1 in place of L2, and the four variants of the attention
ablation. Queues them, works the queue off, samples and scores each, and writes a table and one sheet
of pictures a task. What is done already is not done again.

    python3 scripts/experiments.py --train data/train --held-out data/held-out --out experiments

The datasets are made by `pipeline ingest` (see docs/experiments.md). Programs are taken from
target/release, or from PALETTE_BIN.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("PALETTE_BIN", ROOT / "target/release"))

# How each task is evaluated.
TASKS = {
    "colorization": "colorization",
    "inpainting": "inpainting:free-form-20-30",
    "uncropping": "uncropping:right-half",
    "jpeg": "jpeg:10",
}
SEVERAL = ["colorization", "inpainting", "jpeg"]
# All four variants stand at the same resolutions; inpainting is what the paper compares them on.
FAR = ["model.attention=[16, 8]"]
# Name, configuration, changes, tasks.
RUNS = [
    ("colorization", "colorization", [], ["colorization"]),
    ("inpainting", "inpainting", FAR, ["inpainting"]),
    ("uncropping", "uncropping", [], ["uncropping"]),
    ("jpeg", "jpeg", [], ["jpeg"]),
    ("multitask", "multitask", [], SEVERAL),
    ("regression", "multitask", ["diffusion.kind=regression"], SEVERAL),
    ("l1", "multitask", ["diffusion.loss=l1"], SEVERAL),
    ("attention-local", "inpainting", [*FAR, "model.attention_kind=local"], ["inpainting"]),
    ("attention-more-blocks", "inpainting", [*FAR, "model.attention_kind=more_blocks"], ["inpainting"]),
    ("attention-dilated", "inpainting", [*FAR, "model.attention_kind=dilated"], ["inpainting"]),
]


def run(program, *arguments, show=False):
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, text=True, stdout=None if show else subprocess.PIPE)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} ended with status {done.returncode}")
    return None if show else done.stdout


def sized(options, changes):
    """The changes of a run at the size that is asked for; attention moves along with it."""
    half, quarter = options.size // 2, options.size // 4
    return [
        f"data.image_size={options.size}",
        f"model.attention=[{quarter}]",
        *(change.replace("[16, 8]", f"[{half}, {quarter}]") for change in changes),
        *options.set,
    ]


def submit(options, name, config, changes, tasks):
    every = max(1, options.steps // 4)
    validation = f'{{ dataset = "{options.held_out}", images = 256, every = {every} }}'
    changes = [
        f"name={options.prefix}-{name}",
        f"train.steps={options.steps}",
        f"train.validation={validation}",
        f"train.preview={{ images = 8, steps = 20, every = {every} }}",
        f"train.checkpoint={{ every = {every}, keep_last = 1 }}",
        *sized(options, changes),
    ]
    sets = [part for change in changes for part in ("--set", change)]
    key = f"{options.prefix}-{name}"
    file = ROOT / f"configs/small/{config}.toml"
    run("trainer", "submit", file, "--dataset", options.train, *sets, "--key", key)
    for task in tasks:
        samples = 1 if name == "regression" else options.samples
        run(
            "sampler", "submit", "--run", f"{options.prefix}-{name}", "--dataset", options.held_out,
            "--count", options.images, "--samples", samples, "--task", TASKS[task],
            "--process", "ddim", "--steps", 20, "--batch", 64,
            "--out", options.out / name / task, "--key", f"{key}-{task}",
        )


def number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def table(options):
    """A row for each run and task."""
    runs = {row["name"]: row for row in json.loads(run("scheduler", "runs", "--json"))}
    lines = [
        "| run | task | parameters (M) | GMAC | validation loss | error of the input | error | PSNR (dB) | diversity | images/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    results = []
    for name, _, _, tasks in RUNS:
        row = runs[f"{options.prefix}-{name}"]
        latest = row["latest"]
        cost = check(options, name)
        for task in tasks:
            scores = json.loads(
                run("evaluator", "run", "--outputs", options.out / name / task, "--json")
            )["tasks"][task]
            loss = latest.get(f"validation/loss/{task}", latest.get("validation/loss"))
            results.append({"run": name, "task": task, "validation_loss": loss, **scores, **cost})
            lines.append(
                f"| {name} | {task} | {cost['parameters'] / 1e6:.2f} | {cost['gmac']:.3f} "
                f"| {number(loss, 4)} | {number(scores['input_mean_absolute_error'], 2)} "
                f"| {number(scores['mean_absolute_error'], 2)} | {number(scores['psnr'], 2)} "
                f"| {number(scores.get('diversity'), 2)} | {latest['images_per_second']:.0f} |"
            )
    (options.out / "table.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def check(options, name):
    _, config, changes, _ = next(row for row in RUNS if row[0] == name)
    sets = [part for change in sized(options, changes) for part in ("--set", change)]
    file = ROOT / f"configs/small/{config}.toml"
    meaning = json.loads(run("trainer", "check", file, "--dataset", options.train, *sets, "--json"))
    return {"parameters": meaning["network"]["parameters"], "gmac": meaning["gmac"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="dataset to train on")
    parser.add_argument("--held-out", required=True, help="dataset to validate and sample on")
    parser.add_argument("--out", default="experiments", type=pathlib.Path)
    parser.add_argument("--steps", default=500, type=int)
    parser.add_argument("--size", default=32, type=int, help="side of the images")
    parser.add_argument("--images", default=64, type=int, help="held-out images that are sampled")
    parser.add_argument("--samples", default=4, type=int, help="outputs of each")
    parser.add_argument("--prefix", default="small", help="what the runs' names begin with")
    parser.add_argument("--set", action="append", default=[], help="change of every configuration")
    parser.add_argument("--only", help="runs, separated by commas")
    options = parser.parse_args()
    options.out = options.out.absolute()
    options.train, options.held_out = (os.path.abspath(p) for p in (options.train, options.held_out))
    global RUNS
    if options.only:
        RUNS = [row for row in RUNS if row[0] in options.only.split(",")]
    for row in RUNS:
        submit(options, *row)
    run("scheduler", "worker", "--drain", "--follow", show=True)
    table(options)
    for task in TASKS:
        sheet = options.out / task / task / "sheet.png"
        if sheet.exists():
            shutil.copy(sheet, options.out / f"{task}.png")


if __name__ == "__main__":
    main()
