"""Part B: the same network in PyTorch, eager and compiled, in turns with ours."""

from phases import Command


def commands(place, phases):
    """Lists of commands, each with how many of them run at the same time."""
    # Eager PyTorch keeps its norms in fp32: 16 images do not fit into 80 GB.
    eager, compiled, sampling = ("1,2", (1, 2), (1, 2)) if place.cpu else ("4,8", (8, 16), (1, 16))
    # The shortest first: compiling takes what time there is, more than 170 s for a step on 16 cores.
    yield [step(place, "peers-step", eager, "ours,eager-fused-channels-last", 150)], 1
    both = ",".join(map(str, sampling))
    yield [sample(place, "peers-sample", both, "ours,channels-last", 120)], 1
    yield [step(place, f"peers-step-compiled-{compiled[0]}", compiled[0], "compiled", 400)], 1
    yield [sample(place, f"peers-sample-compiled-{sampling[0]}", sampling[0], "compiled", 240)], 1
    # What is compiled for one size is compiled again for the next: where there is time left.
    yield [step(place, f"peers-step-compiled-{compiled[1]}", compiled[1], "compiled", 200)], 1
    yield [sample(place, f"peers-sample-compiled-{sampling[1]}", sampling[1], "compiled", 150)], 1


def peer(place, name, script, options, limit):
    file = place.figures / "logs" / f"{name}.json"
    file.unlink(missing_ok=True)
    command = [place.python, place.root / "benches" / script, place.config, "--device", place.device]
    command += ["--precision", place.precision, "--rounds", "1", "--seconds", "0.2" if place.cpu else "5"]
    missing = None if place.torch else "PyTorch does not load in this Python"
    if place.cpu and "compiled" in name and not place.args.only:
        missing = missing or "compiling takes minutes on a CPU (--only peers)"
    # What was compiled stays for a second try on the same machine.
    environment = {"TORCHINDUCTOR_CACHE_DIR": place.work / "inductor"}
    arguments = [*command, *options, "--json", file]
    return Command(name, arguments, limit=limit, file=file, missing=missing, environment=environment)


def step(place, name, batches, only, limit):
    """Turns of training steps."""
    options = ["--trainer", place.program("trainer"), "--batches", batches, "--warmup", "3", "--only", only]
    return peer(place, name, "train_step.py", options, limit)


def sample(place, name, batches, only, limit):
    """Turns of samplers."""
    options = ["--sampler", place.program("sampler"), "--batches", batches, "--only", only]
    options += ["--steps", "2" if place.cpu else "10"]
    return peer(place, name, "sample.py", options, limit)
