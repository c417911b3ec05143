"""Measures loaders on the same photographs, in turns within one run.

Work of each: decode, resize the shorter side to SIZE, cut the middle, degrade in one of three ways in
equal parts (grey, JPEG round trip, free-form or box mask), batches of uint8 tensors. The peers are
WebDataset, Hugging Face `datasets` and MosaicML Streaming, each with two worker processes of PyTorch's
DataLoader and each with Pillow and with OpenCV; ours is `pipeline bench` on two threads.

Each turn begins with batches that are not counted, so that workers have started and what was fetched
ahead is used up. All files lie in the page cache.
"""

import argparse
import gc
import io
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

TASKS = "colorization,inpainting,jpeg"
QUALITY = 10
HOLE = 128
WARM_UP = 8


def arguments():
    parser = argparse.ArgumentParser(description="loaders on the same photographs, in turns")
    parser.add_argument("--source", required=True, help="archive or folder that `pipeline ingest` takes")
    parser.add_argument("--pipeline", default="target/release/pipeline", help="our program")
    parser.add_argument("--work", default=".bench", type=Path, help="folder for the copies in each format")
    parser.add_argument("--workers", default=2, type=int, help="worker processes of a peer, threads of ours")
    parser.add_argument("--size", default=256, type=int)
    parser.add_argument("--batch", default=32, type=int)
    parser.add_argument("--seconds", default=4.0, type=float, help="length of a turn")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--only", default="", help="names to measure, by comma; all where empty")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


# One sample, with each of the two libraries


def stroke_points(size):
    """Vertices and widths of free-form strokes: 1 to 3 strokes of 4 to 11 turns, as ours."""
    strokes = []
    radius = math.hypot(size, size) / 8
    for _ in range(random.randint(1, 3)):
        point = (random.random() * size, random.random() * size)
        points = [point]
        for turn in range(random.randint(4, 11)):
            angle = random.uniform(2 * math.pi / 5 - 2 * math.pi / 15, 2 * math.pi / 5 + 2 * math.pi / 15)
            angle = 2 * math.pi - angle if turn % 2 == 0 else angle
            length = min(max(random.gauss(radius, radius / 2), 0), 2 * radius)
            point = (
                min(max(point[0] + length * math.cos(angle), 0), size),
                min(max(point[1] + length * math.sin(angle), 0), size),
            )
            points.append(point)
        strokes.append((points, random.randint(12, 39) * size // 256 or 1))
    return strokes


def box(size):
    """A box of 10 to 30% of the image."""
    width = random.randint(int(0.35 * size), int(0.5 * size))
    height = int(random.uniform(0.10, 0.30) * size * size / width)
    height = min(height, size)
    left, top = random.randint(0, size - width), random.randint(0, size - height)
    return left, top, left + width, top + height


class Pillow:
    """Decode, resize and degrade with Pillow."""

    def __init__(self, size):
        self.size = size

    def __call__(self, data):
        import numpy as np
        from PIL import Image, ImageDraw

        size = self.size
        image = Image.open(io.BytesIO(data)).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        # Only the square is computed; Pillow's filter is antialiased.
        image = image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        target = np.asarray(image)
        mask = np.ones((1, size, size), np.uint8)
        task = random.randrange(3)
        if task == 0:
            source = np.asarray(image.convert("L").convert("RGB"))
        elif task == 1:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=QUALITY)
            source = np.asarray(Image.open(buffer).convert("RGB"))
        else:
            canvas = Image.new("L", (size, size))
            draw = ImageDraw.Draw(canvas)
            if random.random() < 0.6:
                for points, width in stroke_points(size):
                    draw.line(points, fill=1, width=width)
                    for x, y in points:
                        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1)
            else:
                draw.rectangle(box(size), fill=1)
            mask = np.asarray(canvas)[None]
            source = target.copy()
            source[mask[0] == 1] = HOLE
        return planes(target), planes(source), tensor(mask)


class OpenCV:
    """Decode, resize and degrade with OpenCV."""

    def __init__(self, size):
        self.size = size

    def __call__(self, data):
        import cv2
        import numpy as np

        cv2.setNumThreads(0)
        size = self.size
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        # Only the square is computed; INTER_AREA is the filter for making images smaller.
        target = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
        mask = np.ones((1, size, size), np.uint8)
        task = random.randrange(3)
        if task == 0:
            source = cv2.cvtColor(cv2.cvtColor(target, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        elif task == 1:
            _, encoded = cv2.imencode(".jpg", target, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            source = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        else:
            mask = np.zeros((1, size, size), np.uint8)
            if random.random() < 0.6:
                for points, width in stroke_points(size):
                    points = [(round(x), round(y)) for x, y in points]
                    for start, end in zip(points, points[1:]):
                        cv2.line(mask[0], start, end, 1, width)
                    for point in points:
                        cv2.circle(mask[0], point, width // 2, 1, -1)
            else:
                left, top, right, bottom = box(size)
                mask[0, top:bottom, left:right] = 1
            source = target.copy()
            source[mask[0] == 1] = HOLE
        rgb = lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return planes(rgb(target)), planes(rgb(source)), tensor(mask)


def planes(pixels):
    """[H,W,3] to a tensor [3,H,W]."""
    return tensor(pixels.transpose(2, 0, 1))


def tensor(array):
    import numpy as np
    import torch

    return torch.from_numpy(np.array(array, order="C"))


# The same photographs in each format


def photographs(dataset):
    """(name, bytes) of all images of our shards, read as anyone may read them."""
    import pyarrow.parquet as parquet

    for shard in sorted(Path(dataset, "data").glob("*.parquet")):
        table = parquet.read_table(shard, columns=["key", "image"])
        for key, image in zip(table["key"].to_pylist(), table["image"].to_pylist()):
            yield key.replace("/", "_").replace(".", "_"), image["bytes"]


def write_webdataset(folder, images, shards):
    import webdataset

    folder.mkdir(parents=True)
    writers = [webdataset.TarWriter(str(folder / f"{number:06d}.tar")) for number in range(shards)]
    for number, (name, data) in enumerate(images):
        writers[number % shards].write({"__key__": name, "jpg": data})
    for writer in writers:
        writer.close()


def write_mds(folder, images):
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"image": "bytes"}, size_limit=1 << 23) as writer:
        for _, data in images:
            writer.write({"image": data})


# The peers, each as its documentation recommends; all streams are endless for our purposes


def webdataset(args, process):
    import webdataset as wds

    shards = sorted(str(path) for path in (args.work / "webdataset").glob("*.tar"))
    stream = (
        wds.WebDataset(shards, resampled=True, shardshuffle=False, nodesplitter=wds.split_by_node)
        .shuffle(100)
        .to_tuple("jpg")
        .map(lambda sample: process(sample[0]))
        .batched(args.batch)
    )
    return wds.WebLoader(stream, batch_size=None, num_workers=args.workers)


def hugging_face(args, process):
    from datasets import Image, load_dataset
    from torch.utils.data import DataLoader, RandomSampler

    files = sorted(str(path) for path in (args.work / "dataset" / "data").glob("*.parquet"))
    rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(args.work / "huggingface"))
    rows = rows.select_columns("image").cast_column("image", Image(decode=False))
    rows = rows.with_transform(lambda rows: {"sample": [process(image["bytes"]) for image in rows["image"]]})
    sampler = RandomSampler(rows, replacement=True, num_samples=10_000_000)
    return DataLoader(
        rows, args.batch, sampler=sampler, num_workers=args.workers, collate_fn=collate_rows
    )


def collate_rows(rows):
    from torch.utils.data import default_collate

    return default_collate([row["sample"] for row in rows])


def mosaicml(args, process):
    from streaming import Stream, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    class Photographs(StreamingDataset):
        def __getitem__(self, index):
            return process(super().__getitem__(index)["image"])

    clean_stale_shared_memory()
    stream = Stream(local=str(args.work / "mds"), repeat=1000)
    rows = Photographs(streams=[stream], batch_size=args.batch, shuffle=True)
    return DataLoader(rows, args.batch, num_workers=args.workers)


PEERS = {"webdataset": webdataset, "hugging face datasets": hugging_face, "mosaicml streaming": mosaicml}
LIBRARIES = {"pillow": Pillow, "opencv": OpenCV}


# One turn of each


def turn_of_peer(loader, args, mark=lambda: None):
    """Images a second over one turn; `mark` is called where what is counted begins and ends."""
    batches = iter(loader)
    for _ in range(WARM_UP):
        next(batches)
    mark()
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < args.seconds:
        target, source, mask = next(batches)
        assert target.shape == source.shape == (args.batch, 3, args.size, args.size), target.shape
        assert mask.shape == (args.batch, 1, args.size, args.size), mask.shape
        images += args.batch
    elapsed = time.perf_counter() - started
    mark()
    del batches
    gc.collect()
    return images / elapsed


def turn_of_ours(args):
    command = [args.pipeline, "bench", "--dataset", str(args.work / "dataset"), "--task", TASKS]
    command += ["--threads", str(args.workers), "--size", str(args.size), "--batch", str(args.batch)]
    command += ["--seconds", str(args.seconds), "--rounds", "1", "--json"]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures["images_per_second"]


def prepare(args):
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HOME"] = str(args.work / "huggingface")
    os.environ["HF_HUB_OFFLINE"] = "1"
    dataset = args.work / "dataset"
    if not (dataset / "manifest.json").exists():
        command = [args.pipeline, "ingest", args.source, "--out", str(dataset)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    images = list(photographs(dataset))
    if not (args.work / "webdataset").exists():
        write_webdataset(args.work / "webdataset", images, 2 * args.workers)
    if not (args.work / "mds").exists():
        write_mds(args.work / "mds", images)
    return images


def main():
    args = arguments()
    images = prepare(args)
    size = sum(len(data) for _, data in images)
    print(f"{len(images)} photographs, {size / 1e6:.1f} MB, {args.workers} workers", file=sys.stderr)
    turns = {"pipeline": lambda: turn_of_ours(args)}
    for peer, make in PEERS.items():
        for library, process in LIBRARIES.items():
            # Made once: a second dataset over the same files would get in the way of the first.
            loaders = {}

            def turn(make=make, process=process, loaders=loaders):
                if not loaders:
                    loaders["loader"] = make(args, process(args.size))
                return turn_of_peer(loaders["loader"], args)

            turns[f"{peer}, {library}"] = turn
    wanted = [name.strip() for name in args.only.split(",") if name.strip()]
    if wanted:
        turns = {name: turn for name, turn in turns.items() if any(word in name for word in wanted)}
    rates = {name: [] for name in turns}
    for number in range(args.rounds):
        for name, turn in turns.items():
            rates[name].append(turn())
            print(f"round {number + 1}: {name}: {rates[name][-1]:.0f} images/s", file=sys.stderr)
    report(args, rates, len(images), size)


def report(args, rates, count, size):
    fastest = max((statistics.median(r) for name, r in rates.items() if name != "pipeline"), default=None)
    print(f"{'loader':32} {'images/s':>9} {'min':>7} {'max':>7} {'of fastest peer':>16}")
    for name, values in sorted(rates.items(), key=lambda item: -statistics.median(item[1])):
        median = statistics.median(values)
        part = f"{median / fastest:15.2f}x" if fastest else ""
        print(f"{name:32} {median:9.0f} {min(values):7.0f} {max(values):7.0f} {part:>16}")
    if args.json:
        settings = {name: getattr(args, name) for name in ("workers", "size", "batch", "seconds", "rounds")}
        figures = {name: {"rounds": r, "median": statistics.median(r)} for name, r in rates.items()}
        result = {"photographs": count, "bytes": size, **settings, "images_per_second": figures}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
