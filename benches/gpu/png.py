"""Reads and writes PNG files of 8 bits with Python alone: what `image` writes, and sheets of it."""

import struct
import zlib
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def read(path):
    """(width, height, rows): each row RGB bytes; an alpha channel is dropped."""
    data = Path(path).read_bytes()
    if not data.startswith(SIGNATURE):
        raise ValueError(f"{path} is not a PNG file")
    at, packed, head = len(SIGNATURE), b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            head = struct.unpack(">IIBBBBB", content)
        elif kind == b"IDAT":
            packed += content
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = head
    if depth != 8 or colour not in CHANNELS or interlaced:
        raise ValueError(f"{path}: only plain PNG files of 8 bits are read")
    channels = CHANNELS[colour]
    return width, height, [rgb(row, channels) for row in unfiltered(zlib.decompress(packed), width, height, channels)]


def unfiltered(data, width, height, channels):
    """The rows as they were before each was filtered for compression."""
    stride, above = width * channels, bytearray(width * channels)
    for number in range(height):
        start = number * (stride + 1)
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + stride])
        for x in range(stride):
            left = row[x - channels] if x >= channels else 0
            corner = above[x - channels] if x >= channels else 0
            guess = (0, left, above[x], (left + above[x]) // 2, paeth(left, above[x], corner))[kind]
            row[x] = (row[x] + guess) & 255
        yield row
        above = row


def paeth(left, above, corner):
    near = left + above - corner
    return min((left, above, corner), key=lambda value: abs(near - value))


def rgb(row, channels):
    if channels >= 3:
        return b"".join(bytes(row[x : x + 3]) for x in range(0, len(row), channels))
    return b"".join(bytes([row[x]] * 3) for x in range(0, len(row), channels))


def grey(picture):
    """Luma (BT.601) of a picture, as RGB."""
    width, height, rows = picture

    def turned(row):
        luma = (round(0.299 * row[x] + 0.587 * row[x + 1] + 0.114 * row[x + 2]) for x in range(0, len(row), 3))
        return b"".join(bytes([value] * 3) for value in luma)

    return width, height, [turned(row) for row in rows]


def holed(picture, mask):
    """A picture with grey where the mask is white."""
    width, height, rows = picture

    def covered(row, over):
        pixels = (b"\x80\x80\x80" if over[x] >= 128 else row[x : x + 3] for x in range(0, len(row), 3))
        return b"".join(pixels)

    return width, height, [covered(row, over) for row, over in zip(rows, mask[2])]


def write(path, width, height, rows):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    Path(path).write_bytes(SIGNATURE + chunks)


def write_sheet(path, lines, scale=2, gap=4):
    """Lines of pictures of one size, each pixel `scale` times as wide and high."""
    width, height, _ = lines[0][0]
    across = len(lines[0]) * (width * scale + gap) - gap
    rows = []
    for line in lines:
        if any(picture[:2] != (width, height) for picture in line):
            raise ValueError("pictures of a sheet must have one size")
        if rows:
            rows += [b"\xff" * 3 * across] * gap
        for y in range(height):
            row = (b"\xff" * 3 * gap).join(wide(picture[2][y], scale) for picture in line)
            rows += [row] * scale
    write(path, across, len(rows), rows)


def wide(row, scale):
    return b"".join(row[x : x + 3] * scale for x in range(0, len(row), 3))
