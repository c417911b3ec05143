"""Writes the figures of `train_step.py` on a GPU as a table in markdown, with the share of the GPU's peak.

    python benches/gpu/report.py check.json step.json

`check.json` is what `trainer check --json` says of the same configuration. A training step costs three
forward passes of two operations a multiply-accumulate: 6 MAC an image, nothing for Adam and the average.
The peak is that of dense bf16 matrices, by the maker's data sheet. "Without the update" leaves Adam and
the average out, as where many micro-batches share one update.
"""

import argparse
import datetime
import json
import statistics
import subprocess
from pathlib import Path

# Dense bf16 FLOP/s; the first whose words all occur in the device's name.
PEAKS = [
    ("H100 PCIe", 756e12),
    ("H100 HBM3", 989e12),
    ("H100 SXM", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("RTX 4090", 165e12),
]
OURS = "ours"


def peak_of(name):
    words = name.replace("-", " ").split()
    if "Laptop" in words or "D" in words:
        return None
    return next((peak for wanted, peak in PEAKS if all(word in words for word in wanted.split())), None)


def gpu():
    """Name, driver and memory of the first GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0"]
    return [part.strip() for part in subprocess.check_output(query, text=True).split(",")]


def share(rate, flop, peak):
    return f"{rate * flop / peak:.1%}" if peak else "unknown"


def rows(batches, flop, peak):
    for batch, figures in batches.items():
        peers = [value for name, value in figures.items() if name != OURS and "failed" not in value]
        fastest = min(peers, key=lambda value: value["seconds_per_step"], default=None)
        for name, value in figures.items():
            shown = f"**{name}**" if name == OURS else name
            if "failed" in value:
                yield [batch, shown, value["failed"], *[""] * 6]
                continue
            rate = value["images_per_second"]
            stages = value["stages"]
            alone = int(batch) / sum(stages[stage] for stage in ("prepare", "forward", "backward"))
            pairs = zip(value["rounds"], fastest["rounds"]) if fastest else []
            ratios = [a / b for a, b in pairs]
            yield [
                batch,
                shown,
                f"{1000 * value['seconds_per_step']:.1f}",
                f"{rate:.2f}",
                f"{rate * flop / 1e12:.0f}",
                share(rate, flop, peak),
                share(alone, flop, peak),
                f"{value['peak_memory_bytes'] / 1e9:.1f}",
                f"{statistics.median(ratios):.2f}" if ratios else "",
            ]


def main():
    parser = argparse.ArgumentParser(description="figures of train_step.py on a GPU as markdown")
    parser.add_argument("check", type=Path, help="what `trainer check --json` printed")
    parser.add_argument("step", type=Path, help="what `train_step.py --json` wrote")
    args = parser.parse_args()
    check, step = json.loads(args.check.read_text()), json.loads(args.step.read_text())
    name, driver, memory = gpu()
    peak = peak_of(name)
    said = f"{peak / 1e12:.0f} TFLOP/s" if peak else "unknown"
    size, changes = check["image_size"], "".join(f", {change}" for change in step["set"])
    print(f"## Training step on {name}, {datetime.date.today()}\n")
    print(
        f"`{step['config']}`{changes}: {check['network']['parameters']:,} parameters, {check['gmac']:,.1f} GMAC "
        f"a forward pass at {size}×{size}, {step['precision']}. Driver {driver}, {memory}, peak {said} (dense bf16). "
        f"Medians of {step['rounds']} rounds of {step['seconds']:g} s, in turns.\n"
    )
    head = ["micro-batch", "", "ms a step", "images/s", "TFLOP/s", "of the peak", "without the update", "GB"]
    head.append("time, of the fastest peer")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows(step["batches"], 6e9 * check["gmac"], peak):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
