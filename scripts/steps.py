#!/usr/bin/env python3
"""How many steps the reverse processes need: a trained network restores the same degraded photographs by
every process with ever more steps, and once as the paper does, with 1000. Queues the jobs, works the queue
off and prints a table in markdown. What is done already is not done again.

    python3 scripts/steps.py --checkpoint DIR --dataset data/held-out --out steps --extractor FILE

Columns: calls of the network for an output; error (mean absolute, in levels of 255) and PSNR against the
photograph over what was to be made; diversity, the mean absolute difference between two outputs of an
input; the Fréchet distance between the features of all outputs and those of the photographs; for the
processes without noise the root mean square difference, in levels, from the same process's limit (Heun
with LIMIT steps: all of them start from the same noise and follow the same differential equation).

The extractor is a TorchScript file that takes uint8 [N,3,H,W] and gives features [N,D] (and more). Wants
torch, numpy, pillow and pyarrow (benches/requirements.lock).
"""

import argparse
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet as parquet
import torch
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("PALETTE_BIN", ROOT / "target/release"))
TASKS = ["colorization", "inpainting:center", "jpeg:10"]
PROCESSES = ["ancestral", "posterior", "ddim", "dpmpp-2m", "dpmpp-2m-sde", "heun"]
WITHOUT_NOISE = ["ddim", "dpmpp-2m", "heun"]
SPACINGS = ["linear", "log-snr"]


def arguments():
    parser = argparse.ArgumentParser(description="error against steps for every reverse process")
    parser.add_argument("--checkpoint", required=True, help="folder of a trained network")
    parser.add_argument("--dataset", required=True, help="photographs that it has not seen")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--extractor", required=True, help="TorchScript file")
    parser.add_argument("--count", default=40, type=int, help="photographs")
    parser.add_argument("--steps", default="5,10,20,50", help="by comma")
    parser.add_argument("--limit", default=200, type=int, help="steps of Heun's method for the limit")
    return parser.parse_args()


def run(program, *words):
    command = [str(BIN / program), *map(str, words)]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} ended with status {done.returncode}")
    return done.stdout


def settings(options):
    """Process, spacing and steps of every job, the dear ones last."""
    for steps in map(int, options.steps.split(",")):
        for process in PROCESSES:
            yield from ((process, spacing, steps) for spacing in SPACINGS)
    yield "heun", "log-snr", options.limit
    yield "ancestral", "linear", 1000


def folder(options, setting):
    return options.out / "-".join(map(str, setting))


def submit(options, setting):
    process, spacing, steps = setting
    place = folder(options, setting)
    words = ["--checkpoint", options.checkpoint, "--dataset", options.dataset, "--out", place]
    words += ["--process", process, "--spacing", spacing, "--steps", steps]
    words += ["--count", options.count, "--samples", 2, "--batch", 60, "--key", place.resolve()]
    words += [word for task in TASKS for word in ("--task", task)]
    run("sampler", "submit", *words)


def images(place, column):
    """The images of a column, uint8 [N,3,H,W]."""
    files = sorted((place / "data").glob("*.parquet"))
    cells = [cell for file in files for cell in parquet.read_table(file, columns=[column])[column].to_pylist()]
    decoded = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def moments(extractor, pictures):
    with torch.inference_mode():
        features = extractor(pictures)
    features = (features[0] if isinstance(features, (tuple, list)) else features).double().numpy()
    return features.mean(0), np.cov(features, rowvar=False)


def frechet(one, other):
    """|μ−μ'|² + tr(Σ + Σ' − 2·(Σ^½ Σ' Σ^½)^½), by symmetric eigenvalues."""
    (mean, covariance), (other_mean, other_covariance) = one, other
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other_covariance @ root), 0, None)).sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def scores(options, setting, extractor, limit):
    process, spacing, steps = setting
    place = folder(options, setting)
    tasks = json.loads(run("evaluator", "run", "--outputs", place, "--dry-run", "--json"))["tasks"].values()
    mean = lambda key: sum(task[key] for task in tasks) / len(tasks)
    outputs = images(place, "output")
    away = None
    if process in WITHOUT_NOISE:
        away = float((outputs.double() - limit.double()).square().mean().sqrt())
    return {
        "process": process,
        "spacing": spacing,
        "steps": steps,
        "calls": 2 * steps - 1 if process == "heun" else steps,
        "error": mean("mean_absolute_error"),
        "psnr": mean("psnr"),
        "diversity": mean("diversity"),
        "frechet": frechet(moments(extractor, outputs), moments(extractor, images(place, "reference"))),
        "from_limit": away,
    }


def row(score):
    limit = "–" if score["from_limit"] is None else f"{score['from_limit']:.2f}"
    return (
        f"| {score['process']} | {score['spacing']} | {score['steps']} | {score['calls']} | {score['error']:.2f} "
        f"| {score['psnr']:.2f} | {score['diversity']:.2f} | {score['frechet']:.3f} | {limit} |"
    )


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = list(settings(options))
    for setting in wanted:
        submit(options, setting)
    run("scheduler", "worker", "--drain")
    extractor = torch.jit.load(options.extractor)
    limit = images(folder(options, ("heun", "log-snr", options.limit)), "output")
    figures = [scores(options, setting, extractor, limit) for setting in wanted]
    figures.sort(key=lambda score: (PROCESSES.index(score["process"]), score["spacing"], score["steps"]))
    (options.out / "steps.json").write_text(json.dumps(figures, indent=2))
    print("| process | spacing | steps | calls | error | PSNR | diversity | Fréchet | from the limit |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(map(row, figures)))


if __name__ == "__main__":
    main()
