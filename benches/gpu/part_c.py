"""Part C: trains a small network on several tasks for the minutes there are, and makes pictures with it."""

import shutil

import png
from phases import Command

# Task, folder of its inputs among the held-out pictures, its mask.
TASKS = [("colorization", "originals", None), ("inpainting", "originals", "mask.png"), ("jpeg", "jpeg", None)]
# Seconds that sampling and the sheets take.
RESERVE = 45.0


def commands(place, phases):
    """Lists of commands, each with how many of them run at the same time."""
    folder = place.work / "checkpoint"
    shutil.rmtree(folder, ignore_errors=True)
    yield [training(place, phases, folder)], 1
    # The folder itself, or the step's folder in it.
    found = sorted(folder.rglob("state.json")) if folder.exists() else []
    checkpoint = found[-1].parent if found else folder
    yield [restoring(place, checkpoint, *task) for task in TASKS], 1
    for task, inputs, mask in TASKS:
        made = sheet(place, task, inputs, mask)
        if made:
            phases.note(f"sheet-{task}", file=made)


def training(place, phases, folder):
    config = place.config if place.cpu else place.root / "benches/gpu/multitask-64.toml"
    seconds = 0.5 if place.cpu else max(10.0, phases.left() - RESERVE)
    command = [place.program("trainer"), "bench", config, "--device", place.device, "--precision", place.precision]
    command += ["--batch", "2" if place.cpu else "128", "--dataset", place.small, "--seconds", f"{seconds:.1f}"]
    command += ["--checkpoint", folder, "--json"]
    missing = None if place.small else "there are no small photographs (--small-photographs)"
    missing = missing or place.can("trainer", "bench", "--dataset", "--checkpoint")
    return Command("train-small", command, limit=seconds + 30, missing=missing)


def restoring(place, checkpoint, task, inputs, mask):
    folder = place.work / "restored" / task
    shutil.rmtree(folder, ignore_errors=True)
    command = [place.program("sampler"), "run", "--checkpoint", checkpoint, "--task", task, "--out", folder]
    command += ["--precision", place.precision, "--json"]
    missing = None if checkpoint.exists() else "no network was trained"
    if place.held_out:
        command += ["--input", place.held_out / inputs]
        command += ["--mask", place.held_out / mask] if mask else []
    else:
        missing = missing or "there are no held-out pictures (--held-out)"
    return Command(f"restore-{task}", command, limit=30, missing=missing)


def sheet(place, task, inputs, mask):
    """A line for each picture: what the network saw, what it made of it, the original."""
    restored = place.work / "restored" / task
    lines = []
    for output in sorted(restored.glob("*-1.png")):
        key = output.name.removesuffix("-1.png")
        original = png.read(place.held_out / "originals" / f"{key}.png")
        seen = original
        if task == "colorization":
            seen = png.grey(original)
        elif mask:
            seen = png.holed(original, png.read(place.held_out / mask))
        else:
            seen = png.read(place.held_out / inputs / f"{key}.png")
        lines.append([seen, png.read(output), original])
    if not lines:
        return None
    name = f"sheet-{task}.png"
    png.write_sheet(place.out / name, lines)
    return name
