"""Pictures for the sheets of part C: `held_out.py ARCHIVE FOLDER` (`pack.sh` calls this; wants Pillow).

Eight photographs of a tar, spread over it, as 64×64 PNG files (`originals/`), as JPEG of quality 10 and
back (`jpeg/`), and a mask for all (`mask.png`, white where pixels are to be made).
"""

import io
import sys
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 64
COUNT = 8


def square(data):
    """The middle of a photograph."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def main():
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    (out / "originals").mkdir(parents=True)
    (out / "jpeg").mkdir()
    with tarfile.open(source) as archive:
        members = [member for member in archive if member.name.lower().endswith((".jpeg", ".jpg"))]
        step = max(1, len(members) // COUNT)
        for number, member in enumerate(members[::step][:COUNT], start=1):
            image = square(archive.extractfile(member).read())
            image.save(out / "originals" / f"{number}.png")
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=10)
            Image.open(buffer).save(out / "jpeg" / f"{number}.png")
    mask = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(mask).ellipse((18, 20, 46, 44), fill=255)
    mask.save(out / "mask.png")


if __name__ == "__main__":
    main()
