"""Part D: several ranks. What NCCL gives against known numbers, how fast it is, and training steps by one rank and
by as many as there are GPUs. With one GPU it is NCCL with one rank, which proves that it loads, joins and adds."""

import json

from part_a import no_tests, ours, seconds, tests
from phases import Command

# Images a rank: what the paper's configurations put through the network at once.
IMAGES = 16


def commands(place, phases):
    """Lists of commands, each with how many of them run at the same time."""
    programs = [program for program in place.test_programs() if program.name == "test-torch-ext-nccl"]
    yield [tests(place, program) for program in programs] or [no_tests()], 1
    most = 2 if place.cpu else max(place.gpus, 1)
    counts = sorted({1, 2, most} if most > 1 else {1})
    yield [collectives(place, count) for count in counts], 1
    # One rank for the speed-up, then all; what `train.shares` and `train.shard_optimizer` cost, and sums that begin only
    # after the backward pass.
    yield [steps(place, count) for count in sorted({1, most})], 1
    yield [same(place, count, most) for count in sorted({1, most})], 1
    if most > 1:
        shares = 1 << (most - 1).bit_length()
        # Ranks divide the shares: powers of two alone.
        missing = None if shares == most else f"{most} ranks do not divide a power of two"
        yield [
            steps(place, most, "shares", [f"train.shares={shares}"], missing),
            steps(place, most, "shard", ["train.shard_optimizer=true"]),
            steps(place, most, "after", environment={"PALETTE_OVERLAP": "0"}),
        ], 1


def collectives(place, ranks):
    command = [place.program("trainer"), "collectives", "--ranks", ranks, "--device", place.device]
    # The last is the gradient of the paper's network.
    command += ["--megabytes", "1" if place.cpu else "4,32,256,2211", "--seconds", seconds(place, 2), "--json"]
    return Command(f"collectives-{ranks}", command, limit=90, missing=place.can("trainer", "collectives", "--ranks"))


def steps(place, ranks, kind="", sets=(), missing=None, environment=None):
    """Steps of as many images for each rank."""
    each = 1 if place.cpu else IMAGES
    name = "-".join(filter(None, ["ranks", str(ranks), kind]))
    command = ours(place, name, [each * ranks], limit=90, sets=sets)
    command.arguments += ["--ranks", ranks]
    command.environment |= environment or {}
    command.missing = missing or place.can("trainer", "bench", "--ranks")
    return command


def same(place, ranks, most):
    """Eleven deterministic steps with the sums of `train.shares`: on any number of ranks the same loss, to the bit."""
    shares = 1 << (most - 1).bit_length() if most > 1 else 2
    # The network of a small configuration, so that one GPU has room for all images.
    config = place.config if place.cpu else place.root / "configs/small/inpainting.toml"
    command = [place.program("trainer"), "bench", config, "--device", place.device, "--precision", place.precision]
    # Of several ranks two steps find out how many there is time for.
    command += ["--batch", 4 * shares, "--ranks", ranks, "--seconds", "0", "--warmup", "3" if ranks == 1 else "1"]
    command += ["--threads", "1"] if place.cpu else []
    command += ["--set", f"train.shares={shares}", "--set", "train.deterministic=true", "--json"]
    missing = place.can("trainer", "bench", "--ranks")
    missing = missing or (None if shares % ranks == 0 else f"{ranks} ranks do not divide {shares} shares")
    return Command(f"same-{ranks}", command, limit=60, read=json.loads, missing=missing)
