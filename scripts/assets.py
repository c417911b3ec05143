"""Fetches the few files of others that pages are served with, into room/assets/vendor (and, with --tests, what the
tests of pages need, into room/tests/vendor).

They are packages of npm, from the registry that npm is configured for (npm_config_registry, `npm config`,
~/.npmrc, else npm's own), checked by the digests that stand here. npm itself is not needed. The cache that all
clones share (PALETTE_CACHE, else the user's cache folder) keeps them. Only the standard library is used.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Package, version, digest as npm states it, and which file of it goes where.
SERVED = [
    ("uplot", "1.6.32",
     "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
     {"package/dist/uPlot.iife.min.js": "room/assets/vendor/uplot.js",
      "package/dist/uPlot.min.css": "room/assets/vendor/uplot.css",
      "package/LICENSE": "room/assets/vendor/uplot.LICENSE"}),
]
TESTED = [
    ("axe-core", "4.14.1",
     "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
     {"package/axe.min.js": "room/tests/vendor/axe.min.js"}),
]
LIMIT = 32 << 20


def say(message):
    print(f"setup: {message}", file=sys.stderr, flush=True)


def registry():
    named = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY")
    if not named and shutil.which("npm"):
        asked = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, cwd="/")
        named = asked.stdout.strip() if asked.returncode == 0 else None
    if not named:
        try:
            found = re.search(r"^\s*registry\s*=\s*(\S+)", (Path.home() / ".npmrc").read_text(), re.M)
            named = found and found.group(1)
        except OSError:
            pass
    return (named or "https://registry.npmjs.org/").rstrip("/")


def cache():
    named = os.environ.get("PALETTE_CACHE") or os.environ.get("XDG_CACHE_HOME") and os.environ["XDG_CACHE_HOME"] + "/palette"
    folder = Path(named or Path.home() / ".cache" / "palette") / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_right(content, integrity):
    kind, _, digest = integrity.partition("-")
    return base64.b64encode(hashlib.new(kind, content).digest()).decode() == digest


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(beside, 0o644)
    os.replace(beside, path)


def package(name, version, integrity):
    kept = cache() / f"{name}-{version}.tgz"
    if kept.exists() and is_right(kept.read_bytes(), integrity):
        return kept.read_bytes()
    url = f"{registry()}/{name}/-/{name}-{version}.tgz"
    say(f"fetching {name} {version} from npm")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read(LIMIT)
    except (urllib.error.URLError, OSError) as error:
        sys.exit(f"error: {name} {version} cannot be fetched from the npm registry: {error}; "
                 f"set npm_config_registry to one that can be reached, or put the package at {kept}")
    if not is_right(content, integrity):
        sys.exit(f"error: {name} {version} is not the package that was expected: its digest differs; "
                 "set npm_config_registry to a registry that serves npm's packages unchanged")
    write(kept, content)
    return content


def main():
    for name, version, integrity, files in SERVED + (TESTED if "--tests" in sys.argv[1:] else []):
        stamp = ROOT / Path(next(iter(files.values()))).parent / f".{name}-{version}"
        if stamp.exists() and all((ROOT / path).exists() for path in files.values()):
            continue
        with tarfile.open(fileobj=BytesIO(package(name, version, integrity))) as archive:
            for inside, path in files.items():
                write(ROOT / path, archive.extractfile(inside).read())
        write(stamp, b"")


main()
