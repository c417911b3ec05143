"""The line to a server that is far away: passes connections on, with a delay and a rate that all of them
share. Half of the delay is spent on the way there and half on the way back, so that an answer's first byte
comes after the delay; a new connection costs it once more, as a handshake does. Answers are limited to the
rate, requests are not. For measuring, on loopback only.

    python3 benches/line.py --to 9000 --port 9300 --delay 30 --gigabits 1

A connection to the port after `--port` is answered by one line of JSON: connections, requests and bytes of
answers so far.
"""

import argparse
import asyncio
import json
import socket
import time

PIECE = 64 << 10
# Pieces on their way in one connection: what fits into 15 ms at 2 Gb/s, and as much again.
UNDER_WAY = 128
METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")


class Rate:
    """Bytes go one after the other, so many a second; 0 has no limit."""

    def __init__(self, gigabits):
        self.bytes_per_second = gigabits * 1e9 / 8
        self.free = 0.0

    def leaves(self, count):
        """When the last of these bytes has left."""
        now = time.monotonic()
        if self.bytes_per_second == 0:
            return now
        self.free = max(self.free, now) + count / self.bytes_per_second
        return self.free


class Line:
    def __init__(self, to, delay, gigabits):
        self.to, self.half, self.rate = to, delay / 2, Rate(gigabits)
        self.connections = self.requests = self.bytes = 0

    async def connect(self, reader, writer):
        self.connections += 1
        try:
            await asyncio.sleep(2 * self.half)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to, limit=PIECE)
        except OSError:
            writer.close()
            return
        for each in (writer, far_writer):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self.pass_on(reader, far_writer, True), self.pass_on(far_reader, writer, False))

    async def pass_on(self, reader, writer, there):
        """One direction of a connection: pieces keep their order and arrive when they are due."""
        pieces = asyncio.Queue(UNDER_WAY)
        arriving = asyncio.create_task(self.arrive(pieces, writer))
        try:
            while piece := await reader.read(PIECE):
                if there:
                    self.requests += piece.startswith(METHODS)
                    leaves = time.monotonic()
                else:
                    self.bytes += len(piece)
                    leaves = self.rate.leaves(len(piece))
                await pieces.put((leaves + self.half, piece))
        except OSError:
            pass
        await pieces.put((time.monotonic() + self.half, None))
        await arriving

    async def arrive(self, pieces, writer):
        broken = False
        while True:
            due, piece = await pieces.get()
            # Timers are good for a millisecond: a shorter wait is made up for by the next one.
            if (wait := due - time.monotonic()) > 0.001:
                await asyncio.sleep(wait)
            if piece is None:
                writer.close()
                return
            try:
                if not broken:
                    writer.write(piece)
                    await writer.drain()
            except OSError:
                broken = True

    async def count(self, _, writer):
        counts = {"connections": self.connections, "requests": self.requests, "bytes": self.bytes}
        writer.write(json.dumps(counts).encode() + b"\n")
        await writer.drain()
        writer.close()


async def main():
    parser = argparse.ArgumentParser(description="a line with a delay and a rate, before a server on loopback")
    parser.add_argument("--to", type=int, required=True, help="port of the server")
    parser.add_argument("--port", type=int, default=9300, help="port of the line; the counts are on the next one")
    parser.add_argument("--delay", type=float, default=30.0, help="milliseconds to the first byte of an answer")
    parser.add_argument("--gigabits", type=float, default=1.0, help="rate of all answers; 0 has no limit")
    args = parser.parse_args()
    line = Line(args.to, args.delay / 1e3, args.gigabits)
    server = await asyncio.start_server(line.connect, "127.0.0.1", args.port, limit=PIECE, backlog=256)
    counts = await asyncio.start_server(line.count, "127.0.0.1", args.port + 1)
    print(f"http://127.0.0.1:{args.port}", flush=True)
    async with server, counts:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
