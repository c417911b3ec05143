"""Measures scoring of ours, pytorch-fid and torch-fidelity: the same images, the same network, in turns.

    python3 benches/score.py --photographs FOLDER --images 200 --rounds 3

From photographs it makes two folders of PNG files at 256x256: references, and the same after JPEG at quality
10. The network is pytorch-fid's Inception with random weights (its own are fetched from the network, and the
work does not depend on them): ours gets it as TorchScript, the peers as it is. A turn is a whole process: from
two folders to the Fréchet distance of all images. Ours is also measured with everything that `evaluator run`
adds (SSIM, MS-SSIM, KID, perceptual distance, intervals).

Wants torch, torchvision, pytorch-fid 0.3.0, torch-fidelity 0.4.0 and Pillow.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

OURS, OURS_ALL, PYTORCH_FID, FIDELITY = "ours", "ours, all scores", "pytorch-fid", "torch-fidelity"
EXACT = "exact"
ALL = [OURS, OURS_ALL, PYTORCH_FID, FIDELITY]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=pathlib.Path, help="folder, searched in depth")
    parser.add_argument("--images", default=200, type=int)
    parser.add_argument("--batch", default=16, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--evaluator", default="target/release/evaluator")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--work", type=pathlib.Path, help="folder to keep images and network in")
    parser.add_argument("--json", type=pathlib.Path, help="file for the figures")
    parser.add_argument("--child", choices=[PYTORCH_FID, FIDELITY, EXACT])
    return parser.parse_args()


def network(work):
    """pytorch-fid's Inception without its download."""
    import torch
    from pytorch_fid import inception

    weights = work / "inception.pth"

    def load(*_, **__):
        return torch.load(weights, weights_only=True)

    if weights.exists():
        inception.load_state_dict_from_url = load
        return inception.InceptionV3([3]).eval()
    torch.manual_seed(0)
    module = inception.nn.Module

    def keep(self, *_, **__):
        return None

    inception.load_state_dict_from_url = lambda *_, **__: {}
    original = module.load_state_dict
    module.load_state_dict = keep
    try:
        built = inception.fid_inception_v3()
        # Random weights make nearly equal features; a spread of norms and biases makes distances of them.
        for name, value in built.state_dict().items():
            if name.endswith("bn.weight"):
                value.uniform_(0.9, 1.1)
            elif name.endswith("bn.bias"):
                value.normal_(0, 0.1)
            elif name.endswith("conv.weight"):
                value.normal_(0, (2.0 / value[0].numel()) ** 0.5)
    finally:
        module.load_state_dict = original
    torch.save(built.state_dict(), weights)
    return network(work)


def export(work, batch):
    import torch

    class Extractor(torch.nn.Module):
        def __init__(self, inception):
            super().__init__()
            self.inception = inception

        def forward(self, pictures):
            return self.inception(pictures.float() / 255)[0].flatten(1)

    file = work / "extractor.pt"
    with torch.no_grad():
        example = torch.zeros(2, 3, 256, 256, dtype=torch.uint8)
        torch.jit.trace(Extractor(network(work)).eval(), example, check_trace=False).save(str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for name, scores in ((OURS, ["fid"]), (OURS_ALL, ["fid", "kid", "pd"])):
        (work / f"{name}.toml").write_text(
            f'name = "inception"\nfile = "extractor.pt"\nsha256 = "{digest}"\nscores = {json.dumps(scores)}\n'
            f'input = "uint8"\nbatch = {batch}\n[features]\nwidth = 2048\n'
        )


def images(args, work):
    from PIL import Image

    files = sorted(p for p in args.photographs.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(files) < 2:
        sys.exit(f"error: {args.photographs} holds {len(files)} photographs, two or more are wanted")
    made = 0
    for side in ("reference", "jpeg"):
        (work / side).mkdir(parents=True, exist_ok=True)
    while made < args.images:
        for file in files[: args.images - made]:
            image = Image.open(file).convert("RGB")
            scale = 256 / min(image.size)
            image = image.resize([max(256, round(s * scale)) for s in image.size], Image.BICUBIC)
            left, top = (image.width - 256) // 2, (image.height - 256) // 2
            # Photographs that come round again are mirrored, so that no image is twice among two rounds.
            image = image.crop((left, top, left + 256, top + 256))
            image = image.transpose(Image.FLIP_LEFT_RIGHT) if made // len(files) % 2 else image
            image.save(work / "reference" / f"{made:05}.png", compress_level=1)
            buffer = io.BytesIO()
            image.save(buffer, "jpeg", quality=10)
            Image.open(buffer).save(work / "jpeg" / f"{made:05}.png", compress_level=1)
            made += 1


def exact(folders, model, args, threads):
    """The distance without a root of a matrix: from the singular values of the features themselves."""
    import numpy as np
    from pytorch_fid import fid_score

    a, b = (
        fid_score.get_activations(sorted(pathlib.Path(f).glob("*.png")), model, args.batch, 2048, args.device, threads)
        for f in folders
    )
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return apart + (a**2).sum() + (b**2).sum() - 2 * root


def child(args):
    work, threads = args.work, len(os.sched_getaffinity(0))
    folders = [str(work / "jpeg"), str(work / "reference")]
    model = network(work).to(args.device)
    if args.child == EXACT:
        distance = exact(folders, model, args, threads)
    elif args.child == PYTORCH_FID:
        from pytorch_fid import fid_score

        sides = [fid_score.compute_statistics_of_path(f, model, args.batch, 2048, args.device, threads) for f in folders]
        distance = fid_score.calculate_frechet_distance(*sides[0], *sides[1])
    else:
        import torch_fidelity
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase

        class Same(FeatureExtractorBase):
            def __init__(self, name, features_list, **_):
                super().__init__(name, features_list)
                self.inception = model

            @staticmethod
            def get_provided_features_list():
                return ("2048",)

            @staticmethod
            def get_default_feature_layer_for_metric(metric):
                return "2048"

            @staticmethod
            def can_be_compiled():
                return False

            def forward(self, pictures):
                return (self.inception(pictures.float() / 255)[0].flatten(1),)

        torch_fidelity.register_feature_extractor("same", Same)
        answer = torch_fidelity.calculate_metrics(
            input1=folders[0], input2=folders[1], fid=True, feature_extractor="same", batch_size=args.batch,
            cuda=args.device == "cuda", verbose=False, cache=False, samples_find_deep=False,
        )
        distance = answer["frechet_inception_distance"]
    print(json.dumps({"fid": float(distance)}))


def turn(name, args, work):
    begun = time.monotonic()
    if name in (OURS, OURS_ALL):
        command = [args.evaluator, "run", "--outputs", work / "jpeg", "--reference", work / "reference",
                   "--extractor", work / f"{name}.toml", "--dry-run", "--json"]
        command += ["--no-structure"] if name == OURS else []
    else:
        command = [sys.executable, __file__, "--child", name, "--work", work, "--batch", args.batch, "--device", args.device]
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"error: {name}: {done.stderr.strip().splitlines()[-1:]}")
    seconds = time.monotonic() - begun
    answer = json.loads(done.stdout[done.stdout.index("{"):])
    figures = {"seconds": seconds, "images_per_second": 2 * args.images / seconds}
    if "tasks" in answer:
        figures |= {"fid": answer["tasks"]["pictures"]["fid"]["value"], "extractor_share": answer["timing"]["extractor_share"]}
    else:
        figures["fid"] = answer["fid"]
    return figures


def main():
    args = arguments()
    if args.child:
        return child(args)
    if not args.photographs:
        sys.exit("error: --photographs is missing")
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or pathlib.Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        images(args, work)
        export(work, args.batch)
        turns = {name: [] for name in ALL}
        for round_ in range(args.rounds):
            for name in ALL[round_ % len(ALL):] + ALL[: round_ % len(ALL)]:
                turns[name].append(turn(name, args, work))
                print(f"round {round_ + 1}: {name}: {turns[name][-1]}", file=sys.stderr)
        truth = turn(EXACT, args, work)["fid"]
    print(f"\n{args.images} images a side, batches of {args.batch}, {args.rounds} rounds")
    print("| | images/s (median) | of pytorch-fid, round by round | extractor busy | FID |\n|---|---|---|---|---|")
    for name in ALL:
        rate = statistics.median(t["images_per_second"] for t in turns[name])
        ratios = [p["seconds"] / t["seconds"] for t, p in zip(turns[name], turns[PYTORCH_FID])]
        share = turns[name][0].get("extractor_share")
        share = "" if share is None else f"{100 * statistics.median(t['extractor_share'] for t in turns[name]):.0f} %"
        fid = turns[name][-1]["fid"]
        print(f"| {name} | {rate:.2f} | {statistics.median(ratios):.2f} | {share} | {fid:.10f} |")
    print(f"| from singular values | | | | {truth:.10f} |")
    if args.json:
        args.json.write_text(json.dumps(turns, indent=1) + "\n")


if __name__ == "__main__":
    main()
