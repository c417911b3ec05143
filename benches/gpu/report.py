"""The short table of a run: every figure beside its prediction, what failed, what was skipped.

    python3 benches/gpu/report.py FIGURES [--config configs/paper/inpainting.toml]

FIGURES is the folder of `NAME.json` files that `run.sh` writes (in `results.tar.gz`). A training step costs
three forward passes of two operations a multiply-accumulate: 6 MAC an image, nothing for Adam and the
average. The peak is that of dense bf16 matrices, by the maker's data sheet.
"""

import argparse
import json
import textwrap
from pathlib import Path

from roofline import Unrolled, read

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
WIDTH = 124
# Kernels of the table; the figures have more.
KERNELS = 12
# Memory that is reported: given out by the allocator, held by it, in use as the driver says, `trainer check`.
MEMORY = ("peak", "reserved", "device", "predicted")


def peak_of(name):
    words = name.replace("-", " ").split()
    if "Laptop" in words or "D" in words:
        return None
    return next((peak for wanted, peak in PEAKS if all(word in words for word in wanted.split())), None)


class Figures:
    """The figures of a folder by name."""

    def __init__(self, folder):
        figures = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        self.all = {figure["name"]: figure for figure in figures}

    def result(self, name):
        """What a command found, also of one that was stopped after its first figures; else nothing."""
        return (self.all.get(name) or {}).get("result") or None

    def starting(self, beginning):
        return [figure for name, figure in self.all.items() if name.startswith(beginning)]


def table(folder, config):
    """The whole table as text."""
    figures = Figures(folder)
    network = Unrolled(*read(config))
    machine = figures.result("machine") or {}
    gpu = machine.get("gpu") or ["no GPU"]
    peak = peak_of(gpu[0])
    lines = [f"{', '.join(gpu)}; {machine.get('cores')} cores; PyTorch {machine.get('torch')}"]
    made = (machine.get("pack") or {}).get("commit")
    lines += [f"{Path(config).name}: {network.parameters:,} parameters, {network.macs / 1e9:,.1f} GMAC; commit {made}"]
    sections = (ceilings, tests, verify, exact, steps, kernels, sampling, loader, peers_step, peers_sample, small, ranks)
    for section in sections:
        lines += section(figures, network, peak)
    lines += unsaid(figures)
    return "\n".join(line[:WIDTH] for line in lines) + "\n"


def ceilings(figures, network, peak):
    found = figures.result("ceilings")
    if not found:
        return []
    line = "ceilings:"
    if "copy" in found:
        line += f" copy {found['copy']['bytes_per_second'] / 1e12:.2f} TB/s"
    if "product" in found:
        rate = found["product"]["flop_per_second"] / 1e12
        line += f", bf16 product of {found['product']['side']} {rate:.0f} TFLOP/s"
    lines = ["", line]
    for one in found["convolutions"]:
        forward, backward = one["forward_flop_per_second"] / 1e12, one["backward_flop_per_second"] / 1e12
        ms = [1000 * one[f"{way}_seconds"] for way in ("forward", "backward")]
        name = f"{one['in_the_network']} x {one['name']}"
        lines.append(f"  {name:28} forward {ms[0]:7.2f} ms {forward:4.0f} TFLOP/s  backward {ms[1]:7.2f} ms {backward:4.0f}")
    for layout, one in found["group_norm"].items():
        ms = [1000 * one[f"{way}_seconds"] for way in ("forward", "backward")]
        rates = [one[f"{way}_bytes_per_second"] / 1e12 for way in ("forward", "backward")]
        name = f"group norm, {layout.replace('_', ' ')}"
        lines.append(f"  {name:28} forward {ms[0]:7.2f} ms {rates[0]:.2f} TB/s  backward {ms[1]:7.2f} ms {rates[1]:.2f}")
    return lines


def tests(figures, *_):
    lines = []
    for figure in figures.starting("test-"):
        found = figure.get("result")
        if found:
            failing = ", ".join(found["failing"])
            at = f", ended in {found['unfinished']}" if "unfinished" in found else ""
            said = f"{found['passed']} passed, {found['failed']} failed{at} {failing}"
            lines.append(f"  {figure['name']:34} {said} ({figure.get('seconds', 0):.0f} s)")
    return ["", "tests:", *lines] if lines else []


def share_of_scale(found):
    """The largest difference as it is compared: where the tolerance is relative, of tensors with values above 1
    as a share of the largest."""
    shares = [
        tensor["difference"] / (max(tensor["largest"], 1.0) if found["relative"] else 1.0)
        for tensor in found["compared"]
        if isinstance(tensor["difference"], (int, float))
    ]
    # What is no number is text.
    known = len(shares) == len(found["compared"]) and shares
    return f"{max(shares):.1e}" if known else str(found["largest_difference"])


def verify(figures, *_):
    lines = {}
    for figure in figures.starting("verify-"):
        found = figure.get("result")
        if found:
            _, name, precision = figure["name"].split("-")
            verdict = "agrees" if found["agrees"] else "DIFFERS"
            said = f"{precision} {verdict} {share_of_scale(found)} of {found['tolerance']:.0e}"
            lines.setdefault(name, {})[precision] = said
    head = ["", "verify: largest difference of what is allowed"] if lines else []
    order = ("fp32", "tf32", "bf16")
    return head + [
        f"  {name:16} " + ", ".join(said[precision] for precision in order if precision in said)
        for name, said in lines.items()
    ]


def exact(figures, *_):
    lines = []
    for name, title in [("exact", "deterministic"), ("exact-usual", "usual")]:
        figure = figures.all.get(name) or {}
        if figure.get("status") == "ok":
            found = figure["result"]
            tensors, step = len(found.get("different", [])), found.get("first_different_step")
            where = f" in {tensors} tensors, from step {step}"
            lines.append(f"{title}: {'the same bits' if figure['rc'] == 0 else f'DIFFERS{where}'}")
    return ["", "exact resume: " + ", ".join(lines)] if lines else []


def steps(figures, network, peak):
    """Our steps by batch, beside what was computed before: libtorch's norm, and one fused kernel."""
    flop, lines = 6 * network.macs, []
    for figure in [*figures.starting("ours"), *figures.starting("fed")]:
        title = next((kind for kind in ("recompute", "deterministic", "fed") if kind in figure["name"]), "")
        for size in (figure.get("result") or {}).get("sizes", []):
            lines.append(step_line(size, title, flop, peak, network))
    # Sizes in order, the plain ones first.
    lines.sort(key=lambda line: line[0])
    head = f"  {'batch':24} {'ms':>7} {'img/s':>7} {'TFLOP/s':>7} {'peak':>6}   {'computed: before':>18} {'fused':>16}   GB: {'/'.join(MEMORY)}"
    return ["", "training step:", head, *(text for _, text in lines)] if lines else []


def step_line(size, title, flop, peak, network):
    batch = size["batch"]
    label = f"{batch} {title}".strip()
    if "waiting" in size:
        label += f", waits {size['waiting']:.0%}"
    order = (title, batch)
    if "failed" in size:
        return order, f"  {label:24} {size['failed']}"
    rate = size["images_per_second"]
    share = f"{rate * flop / peak:.1%}" if peak else "?"
    computed = network.step(batch) if peak and not title else {}
    said = [f"{1000 * one['seconds']:6.1f} ms {one['share']:5.1%}" for one in computed.values()] or ["", ""]
    memory = [size.get(f"{kind}_memory_bytes") for kind in MEMORY]
    memory = [f"{bytes / 1e9:.1f}" if bytes else "?" for bytes in memory]
    return order, (
        f"  {label:24} {1000 * size['seconds_per_step']:7.1f} {rate:7.2f} {rate * flop / 1e12:7.0f} {share:>6}   "
        f"{said[0]:>18} {said[1]:>16}   {'/'.join(memory)}"
    )


def kernels(figures, *_):
    found = figures.result("kernels")
    if not found:
        return []
    what = "one step" if found["whole_step"] else "a stretch"
    lines = ["", f"kernels, batch 4: {what} of {found['launches']} launches, {1000 * found['seconds']:.1f} ms in kernels"]
    return lines + [
        f"  {one['share']:6.1%} {1000 * one['seconds']:8.2f} ms {one['launches']:5}  {one['name']}" for one in found["kernels"][:KERNELS]
    ]


def sampling(figures, network, peak):
    lines = []
    for figure in figures.starting("sample-"):
        found = figure.get("result")
        if found:
            batch, passes = found["batch"], found["steps"]
            ms = 1000 * found["seconds"] / passes
            computed = network.forward(batch) if peak else {}
            said = ", ".join(f"{way} {1000 * seconds:.1f} ms" for way, seconds in computed.items())
            rate = found["images_per_second"]
            memory = found["peak_memory_bytes"] / 1e9
            text = f"  batch {batch:3}, {passes} steps: {rate:7.2f} images/s, {ms:6.2f} ms a pass (computed: {said}), {memory:.1f} GB"
            lines.append((batch, text))
    return ["", "sampling:", *(text for _, text in sorted(lines))] if lines else []


def loader(figures, *_):
    found = figures.result("loader")
    rows = found if isinstance(found, list) else [found] if found else []
    said = [
        f"{row['threads']} threads {row['images_per_second']:.0f} images/s ({row['of_reference']:.0%} of decode and resize)"
        for row in rows
    ]
    return ["", "loader: " + ", ".join(said)] if said else []


def peers_step(figures, network, peak):
    """Steps of all contenders of part B, in order of their batch and time."""
    rows = {}
    for figure in figures.starting("peers-step"):
        for batch, contenders in ((figure.get("result") or {}).get("batches") or {}).items():
            rows.setdefault(int(batch), {}).update(contenders)
    flop, lines = 6 * network.macs, []
    for batch, contenders in sorted(rows.items()):
        for name, one in sorted(contenders.items(), key=lambda item: item[1].get("seconds_per_step", 1e9)):
            if "failed" in one:
                lines.append(f"  {batch:3} {name:28} {one['failed']}")
                continue
            rate = one["images_per_second"]
            share = f"{rate * flop / peak:6.1%}" if peak else ""
            first = one.get("first_step_seconds")
            first = f", first step {first:.0f} s" if first else ""
            memory = one["peak_memory_bytes"] / 1e9
            lines.append(f"  {batch:3} {name:28} {1000 * one['seconds_per_step']:7.1f} ms {rate:7.2f} img/s {share} {memory:6.1f} GB{first}")
    return ["", "training beside PyTorch (batch, contender):", *lines] if lines else []


def peers_sample(figures, *_):
    rows = []
    for figure in figures.starting("peers-sample"):
        rows += (figure.get("result") or {}).get("results") or []
    lines = []
    for one in sorted(rows, key=lambda one: (one["batch"], -one.get("images_per_second", 0))):
        said = one.get("failed")
        if not said:
            first = f", first batch {one['first_seconds']:.0f} s" if one.get("first_seconds") else ""
            said = f"{one['images_per_second']:7.2f} images/s {one['peak_memory_bytes'] / 1e9:6.1f} GB{first}"
        lines.append(f"  {one['batch']:3} {one['name']:28} {said}")
    return ["", "sampling beside PyTorch (batch, contender):", *lines] if lines else []


def small(figures, *_):
    sheets = [figure["result"]["file"] for figure in figures.starting("sheet-") if figure.get("result")]
    found = figures.result("train-small") or {}
    rate = f" {found['images_per_second']:.0f} images/s;" if "images_per_second" in found else ""
    return ["", f"small network:{rate} sheets: {', '.join(sheets) or 'none'}"] if found or sheets else []


def ranks(figures, network, peak):
    """Collectives, and steps by several ranks beside those of one."""
    lines = []
    for figure in figures.starting("collectives-"):
        found = figure.get("result")
        for one in (found or {}).get("sizes", []):
            rate, link = (one[f"{kind}bytes_per_second"] / 1e9 for kind in ("", "bus_"))
            what = f"{found['backend']}, ranks: {found['ranks']}, {one['operation']} of {one['bytes'] / 1e6:.0f} MB"
            lines.append(f"  {what:50} {1000 * one['seconds']:9.2f} ms {rate:8.2f} GB/s, {link:8.2f} GB/s a link")
    lines = ["", "collectives, checked against known numbers:", *lines] if lines else []
    alone = next(iter((figures.result("ranks-1") or {}).get("sizes", [])), {}).get("images_per_second")
    found = []
    for figure in figures.starting("ranks-"):
        for size in (figure.get("result") or {}).get("sizes", []):
            count, kind = size.get("ranks", 1), figure["name"].removeprefix("ranks-").partition("-")[2]
            if "failed" in size:
                found.append((count, f"  {figure['name']:24} {size['failed']}"))
                continue
            rate, share = size["images_per_second"], size.get("collective_seconds", 0) / size["seconds_per_step"]
            ideal = f"{rate / count / alone:6.1%} of {count} times one rank" if alone else ""
            text = f"  {count:3} {kind:10} batch {size['batch']:5} {1000 * size['seconds_per_step']:8.1f} ms {rate:8.2f} img/s, {ideal}"
            found.append((count, f"{text}, {share:.1%} in collectives, {size['peak_memory_bytes'] / 1e9:.1f} GB a rank"))
    if found:
        lines += ["", "training by several ranks:", *(text for _, text in sorted(found))]
    losses = {figure["name"][5:]: (figure.get("result") or {}).get("loss") for figure in figures.starting("same-")}
    if len(losses) > 1 and all(losses.values()):
        same = "the same loss" if len(set(losses.values())) == 1 else "OTHER losses"
        lines.append(f"  with train.shares {' and '.join(losses)} ranks have {same} to the bit after as many steps")
    return lines


def unsaid(figures):
    """What failed, was stopped or skipped, the same reason on one line."""
    lines, skipped = [], {}
    for name, figure in figures.all.items():
        status, why = figure["status"], figure.get("why", "")
        if status == "skipped":
            skipped.setdefault(why, []).append(name)
        elif status != "ok":
            lines.append(f"  {status}: {name} ({figure.get('seconds', 0):.0f} s): {why}")
    for why, names in skipped.items():
        text = f"skipped, {why}: {', '.join(names)}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
    times = [f"{figure['name'][5:]} {figure['result']['seconds']:.0f} s" for figure in figures.starting("time-")]
    return ["", "not there:", *lines, *([f"time: {', '.join(times)}"])] if lines else ["", f"time: {', '.join(times)}"]


def main():
    parser = argparse.ArgumentParser(description="the short table of a run")
    parser.add_argument("figures", type=Path, help="folder of the figures")
    parser.add_argument("--config", default="configs/paper/inpainting.toml", type=Path, help="their experiment")
    args = parser.parse_args()
    print(table(args.figures, args.config), end="")


if __name__ == "__main__":
    main()
