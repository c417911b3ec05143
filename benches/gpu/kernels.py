"""Sums the kernels that `ncu --csv` timed by their names.

    ncu --csv --metrics gpu__time_duration.sum PROGRAM > kernels.csv
    python3 benches/gpu/kernels.py kernels.csv
"""

import csv
import json
import re
import sys
from pathlib import Path

UNITS = {"ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6, "ms": 1e-3, "msecond": 1e-3, "s": 1.0, "second": 1.0}
TOP = 15


def timed(text):
    """(name, seconds) of every launch, in order; ncu's own lines come before the table."""
    lines = text.splitlines()
    head = next((at for at, line in enumerate(lines) if line.startswith('"ID"')), None)
    if head is None:
        raise ValueError("ncu printed no table of kernels")
    for row in csv.DictReader(line for line in lines[head:] if line.startswith('"')):
        if row.get("Metric Name") == "gpu__time_duration.sum":
            value = float(row["Metric Value"].replace(",", ""))
            yield row["Kernel Name"], value * UNITS[row["Metric Unit"]]


def one_step(launches):
    """The launches from the end of one optimizer to the end of the next, where there are two, else all."""
    updates = [at for at, (name, _) in enumerate(launches) if "adam" in name.lower()]
    ends = [a for a, b in zip(updates, updates[1:]) if b - a > 200] + updates[-1:]
    if len(ends) >= 2:
        return launches[ends[0] + 1 : ends[1] + 1], True
    return launches, False


def short(name):
    """Without arguments and without what every one of libtorch's kernels begins with."""
    name = re.sub(r"^void ", "", name).replace("at::native::", "").replace("(anonymous namespace)::", "")
    name = name.split("(")[0] if name.split("(")[0] else name
    return name if len(name) <= 70 else f"{name[:52]}…{name[-17:]}"


def kernels(text):
    """{launches, seconds, whole_step, kernels: the costliest, with their number and share}."""
    launches, whole = one_step(list(timed(text)))
    if not launches:
        raise ValueError("ncu timed no kernel")
    sums = {}
    for name, seconds in launches:
        count, total = sums.get(short(name), (0, 0.0))
        sums[short(name)] = (count + 1, total + seconds)
    seconds = sum(total for _, total in sums.values())
    costly = sorted(sums.items(), key=lambda item: -item[1][1])[:TOP]
    top = [{"name": name, "launches": count, "seconds": total, "share": total / seconds} for name, (count, total) in costly]
    return {"launches": len(launches), "seconds": seconds, "whole_step": whole, "kernels": top}


if __name__ == "__main__":
    print(json.dumps(kernels(Path(sys.argv[1]).read_text()), indent=2))
