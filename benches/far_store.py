"""A store for measuring where no S3 server is installed: serves a folder as S3 does. It answers what the
loader and boto3 ask (GET with and without a range, HEAD, ListObjectsV2), checks no signature, and writes
nothing. It is in Python and slower than a real one; `line.py` puts it far away. On loopback only.

    python3 benches/far_store.py FOLDER --port 9000

The bucket is a folder in FOLDER, the dataset a folder in that.
"""

import argparse
import asyncio
import os
import time
import urllib.parse
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

PIECE = 128 << 10


class Store:
    def __init__(self, root):
        self.root = Path(root).resolve()
        self.files = {}

    def open(self, path):
        if path not in self.files:
            self.files[path] = os.open(path, os.O_RDONLY)
        return self.files[path]

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:]) if k}
                await self.answer(writer, method, target, headers)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, writer, method, target, headers):
        url = urllib.parse.urlsplit(target)
        path = (self.root / urllib.parse.unquote(url.path).lstrip("/")).resolve()
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if "list-type" in query:
            body = self.listing(path, query).encode()
            self.head(writer, "200 OK", len(body), "Content-Type: application/xml\r\n")
            writer.write(body)
        elif method not in ("GET", "HEAD") or self.root not in path.parents or not path.is_file():
            self.head(writer, "404 Not Found" if method in ("GET", "HEAD") else "501 Not Implemented", 0)
        else:
            size = path.stat().st_size
            first, last, status, more = 0, size - 1, "200 OK", ""
            if wanted := headers.get("range"):
                first, last = wanted.removeprefix("bytes=").split("-")
                first, last = int(first), min(int(last or size - 1), size - 1)
                status, more = "206 Partial Content", f"Content-Range: bytes {first}-{last}/{size}\r\n"
            more += f"Last-Modified: {formatdate(path.stat().st_mtime, usegmt=True)}\r\nETag: \"{size:x}\"\r\n"
            self.head(writer, status, last + 1 - first, more)
            at = first
            while method == "GET" and at <= last:
                count = min(PIECE, last + 1 - at)
                writer.write(os.pread(self.open(path), count, at))
                await writer.drain()
                at += count
        await writer.drain()

    @staticmethod
    def head(writer, status, length, more=""):
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n".encode())

    def listing(self, bucket, query):
        prefix = query.get("prefix", "")
        folder = bucket / prefix
        objects, folders = "", ""
        for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
            key = escape(str(entry.relative_to(bucket)))
            if entry.is_dir():
                folders += f"<CommonPrefixes><Prefix>{key}/</Prefix></CommonPrefixes>"
            else:
                meta = entry.stat()
                at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(meta.st_mtime))
                objects += (
                    f"<Contents><Key>{key}</Key><LastModified>{at}</LastModified>"
                    f"<ETag>&quot;{meta.st_size:x}&quot;</ETag><Size>{meta.st_size}</Size></Contents>"
                )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult '
            f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{escape(bucket.name)}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>{objects}{folders}"
            "</ListBucketResult>"
        )


async def main():
    parser = argparse.ArgumentParser(description="a folder as an object store")
    parser.add_argument("root", help="folder whose folders are buckets")
    parser.add_argument("--port", type=int, default=9000)
    args = parser.parse_args()
    server = await asyncio.start_server(Store(args.root).serve, "127.0.0.1", args.port, limit=1 << 16)
    print(f"http://127.0.0.1:{args.port}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
