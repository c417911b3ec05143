"""Finds or fetches libtorch 2.11 and points .libtorch at it, where the build looks for it.

In this order: the folder that LIBTORCH names; a PyTorch 2.11 that this Python has; the cache that
all clones share (PALETTE_CACHE, else the user's cache folder). Into the cache it comes from the
wheels of the package index that pip is configured for: torch itself and the two small CUDA wheels
without which it does not load, checked by their digests. A broken download goes on where it broke.
Where there is an NVIDIA GPU (or PALETTE_CUDA=1 asks for it), the CUDA libraries that torch names come
along, fetched and checked by pip: some gigabytes more.
Only the standard library and pip are needed.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

VERSION = "2.11.0"  # tch 0.24 in Cargo.toml is made for it: both move together
ROOT = Path(__file__).resolve().parent.parent
LINK = ROOT / ".libtorch"

# One wheel for all Pythons: only the C++ part is used.
WHEELS = {
    "torch": (VERSION, "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756"),
    "nvidia-cuda-runtime": ("13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    "nvidia-cuda-cupti": ("13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
SELECT = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12"]


def fail(message):
    sys.exit(f"error: {message}")


def say(message):
    print(f"setup: {message}", file=sys.stderr, flush=True)


def version_of(torch):
    """The version of the libtorch in this folder, or None where there is none."""
    if not (torch / "lib" / "libtorch_cpu.so").exists() or not (torch / "include").is_dir():
        return None
    for name in ("version.py", "build-version"):
        if (torch / name).exists():
            found = re.search(r"\d+\.\d+\.\d+", (torch / name).read_text())
            return found.group() if found else None
    return None


def fits(torch):
    return (version_of(torch) or "").rpartition(".")[0] == VERSION.rpartition(".")[0]


def from_environment():
    """LIBTORCH, where it is set: it must be right, for the build will use it."""
    named = os.environ.get("LIBTORCH")
    if not named:
        return None
    torch = Path(named).resolve()
    if torch == LINK.resolve():
        return None
    if not fits(torch):
        fail(f"LIBTORCH={named} holds {version_of(torch) or 'no libtorch'}, wanted is {VERSION}: "
             "unset LIBTORCH to have it fetched, or name a folder with lib/ and include/ of that version")
    return torch


def from_python():
    """The PyTorch of this Python, where it has the right version; not imported, only looked at."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    torch = Path(list(spec.submodule_search_locations)[0])
    return torch.resolve() if fits(torch) else None


def cache():
    base = os.environ.get("PALETTE_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "palette"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def locate(name, version):
    """The address of a wheel on the index that pip is configured for; None where this pip cannot tell."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = subprocess.run(
            [*PIP, "install", "-q", "--dry-run", "--ignore-installed", *SELECT, "--target", folder,
             "--report", str(report), f"{name}=={version}"],
            capture_output=True, text=True)
        if asked.returncode or not report.exists():
            return None
        return json.loads(report.read_text())["install"][0]["download_info"]["url"]


def download(url, part):
    """Fetches url into part, going on behind what is there; progress every 10 %."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to fetch
            raise
        return
    with answer, open(part, "ab" if answer.status == 206 else "wb") as file:
        done = file.tell()
        total = done + int(answer.headers.get("Content-Length") or 0)
        tenth = done * 10 // total if total else 0
        while block := answer.read(1 << 20):
            file.write(block)
            done += len(block)
            if total and done * 10 // total > tenth:
                tenth = done * 10 // total
                say(f"  {done / 1e6:.0f} of {total / 1e6:.0f} MB")


def fetch(name, folder):
    """The wheel of this name in the folder, complete and with the right digest."""
    version, digest = WHEELS[name]
    wheel = folder / f"{name}-{version}.whl"
    if wheel.exists() and sha256(wheel) == digest:
        return wheel
    say(f"fetching {name} {version}")
    part = wheel.with_suffix(".part")
    url = locate(name, version)
    try:
        if url is None:
            raise OSError("pip did not name an address")
        for attempt in range(5):
            try:
                download(url, part)
                break
            except OSError as error:
                if attempt == 4:
                    raise
                say(f"  the connection broke ({error}), going on")
    except OSError:
        # An index that wants pip's own credentials or an old pip: let pip fetch it, from the start.
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            if subprocess.run([*PIP, "download", "-q", *SELECT, "-d", fresh, f"{name}=={version}"]).returncode:
                fail(f"{name} {version} could not be fetched: check the network and `pip download {name}=={version}`, "
                     f"or set LIBTORCH to a libtorch {VERSION}")
            os.replace(next(Path(fresh).iterdir()), part)
    found = sha256(part)
    if found != digest:
        part.unlink()
        fail(f"{name} {version} arrived with sha256 {found} instead of {digest}: start again")
    os.replace(part, wheel)
    return wheel


def wants_cuda():
    asked = os.environ.get("PALETTE_CUDA")
    return asked == "1" if asked is not None else Path("/dev/nvidiactl").exists()


def from_cache():
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(f"libtorch is fetched for Linux on x86-64 only: set LIBTORCH to a libtorch {VERSION} for this machine")
    base = cache()
    home = base / (f"libtorch-{VERSION}-cuda" if wants_cuda() else f"libtorch-{VERSION}")
    done = home / ".complete"
    digests = "\n".join(digest for _, digest in WHEELS.values())
    if done.exists() and done.read_text() == digests:
        return home / "torch"
    try:
        downloads = base / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        with open(base / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another clone's set-up may be at it
            if done.exists() and done.read_text() == digests:
                return home / "torch"
            need = 12 if wants_cuda() else 3
            if shutil.disk_usage(base).free < need * 1e9:
                fail(f"{base} has less than {need} GB free: make room, or set PALETTE_CACHE to another folder")
            wheels = [fetch(name, downloads) for name in WHEELS]
            say(f"unpacking into {home}")
            with tempfile.TemporaryDirectory(dir=base) as fresh:
                if wants_cuda():
                    add_cuda(wheels[0], fresh)
                for wheel in wheels:
                    with zipfile.ZipFile(wheel) as archive:
                        archive.extractall(fresh)
                (Path(fresh) / ".complete").write_text(digests)
                shutil.rmtree(home, ignore_errors=True)
                os.chmod(fresh, 0o755)
                os.rename(fresh, home)
                Path(fresh).mkdir()  # the context manager wants to remove it
            shutil.rmtree(downloads)
    except PermissionError as error:
        fail(f"{error.filename or base} is not writable: set PALETTE_CACHE to a folder of your own")
    return home / "torch"


def add_cuda(torch, folder):
    """The CUDA libraries that torch's wheel names, into the folder (still empty) that it goes to."""
    with zipfile.ZipFile(torch) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    wanted = [line.removeprefix("Requires-Dist: ").partition(";")[0].strip() for line in lines
              if line.startswith(("Requires-Dist: nvidia-", "Requires-Dist: cuda-"))]
    lock = Path(__file__).parent / "locks" / "cuda.lock"
    locked = {line.partition("==")[0] for line in lock.read_text().splitlines() if "==" in line}
    missing = sorted({re.split(r"[ \[=<>!~;]", package)[0] for package in wanted} - locked)
    if missing:
        fail(f"{lock} lacks {', '.join(missing)}: run scripts/lock.sh")
    say(f"fetching CUDA: {', '.join(wanted)}")
    # By the digests of the lock, which has what these need in their turn too.
    done = subprocess.run([*PIP, "install", "-qq", "--root-user-action", "ignore", "--no-compile", "--no-deps",
                           "--require-hashes", "--target", folder, "-r", lock])
    if done.returncode:
        fail("the CUDA libraries could not be fetched: set PALETTE_CUDA=0 to go without the GPU, "
             f"or LIBTORCH to a PyTorch {VERSION} that has them")


def main():
    torch = from_environment() or from_python() or from_cache()
    if LINK.is_symlink() and LINK.resolve() == torch.resolve():
        return
    fresh = LINK.with_name(".libtorch.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(torch)
    os.replace(fresh, LINK)
    say(f"libtorch {version_of(torch)} from {torch}")


if __name__ == "__main__":
    main()
