"""Part B: the same network in PyTorch, eager and compiled, in turns with ours."""

from phases import Command


def commands(place, phases):
    """Lists of commands, each with how many of them run at the same time."""
    # Eager PyTorch keeps its norms in fp32: 16 images do not fit into 80 GB.
    eager, compiled, sampling = ("1,2", "1", (1, 2)) if place.cpu else ("4,8", "8", (1, 16))
    both = ",".join(map(str, sampling))
    # Compiling takes minutes (244 s for a step of 8 on 16 cores): at the same time, into a cache that those
    # which are measured find. Its own figures are not kept.
    yield [
        step(place, "compile-step", compiled, "compiled", 320, seconds=0.2),
        sample(place, "compile-sample", both, "compiled", 320, seconds=0.2),
    ], 2
    yield [step(place, "peers-step-compiled", compiled, "ours,compiled", 110)], 1
    yield [sample(place, "peers-sample-compiled", both, "ours,compiled", 140)], 1
    yield [step(place, "peers-step", eager, "ours,eager-fused-channels-last", 150)], 1
    yield [sample(place, "peers-sample", both, "ours,channels-last", 120)], 1


def peer(place, name, script, options, limit, seconds=5):
    file = place.figures / "logs" / f"{name}.json"
    file.unlink(missing_ok=True)
    command = [place.python, place.root / "benches" / script, place.config, "--device", place.device]
    command += ["--precision", place.precision, "--rounds", "1", "--seconds", "0.2" if place.cpu else seconds]
    missing = None if place.torch else "PyTorch does not load in this Python"
    if place.cpu and "compile" in name and not place.args.only:
        missing = missing or "compiling takes minutes on a CPU (--only peers)"
    environment = {"TORCHINDUCTOR_CACHE_DIR": place.work / "inductor"}
    arguments = [*command, *options, "--json", file]
    return Command(name, arguments, limit=limit, file=file, missing=missing, environment=environment)


def step(place, name, batches, only, limit, **more):
    """Turns of training steps."""
    options = ["--trainer", place.program("trainer"), "--batches", batches, "--warmup", "3", "--only", only]
    return peer(place, name, "train_step.py", options, limit, **more)


def sample(place, name, batches, only, limit, **more):
    """Turns of samplers."""
    options = ["--sampler", place.program("sampler"), "--batches", batches, "--only", only]
    options += ["--steps", "2" if place.cpu else "10"]
    return peer(place, name, "sample.py", options, limit, **more)
