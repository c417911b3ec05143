"""Runs the commands of a benchmark within a budget of time and keeps what each of them found.

A command never ends the run: what fails, is stopped at its limit or is skipped for want of time becomes a
figure that says so. Every figure is a file `NAME.json` of its own, written whole when it is made.
"""

import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

# What is left of an error message.
TAIL = 1500
# A command that has less time than this is not begun.
LEAST = 5.0


@dataclass
class Command:
    """A program and what it costs. `read` makes figures of its output; `file` is where it leaves them itself,
    `folder` where it runs."""

    name: str
    arguments: list
    limit: float = 60.0
    environment: dict = field(default_factory=dict)
    read: object = json.loads
    file: Path | None = None
    folder: Path | None = None
    # Figures are good also where the program ends with one of these.
    answers: tuple = (0,)
    # Why it cannot run at all, or nothing.
    missing: str | None = None


def write(path, value):
    """The whole file or none of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)


class Phases:
    """Figures of one part of the run, until its time is over."""

    def __init__(self, part, minutes, folder, archive):
        self.part, self.folder, self.archive = part, folder, archive
        self.begun, self.minutes = time.monotonic(), minutes
        self.children, self.lock, self.stopped = set(), threading.Lock(), False
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def left(self):
        """Seconds of the budget."""
        return 60 * self.minutes - (time.monotonic() - self.begun)

    def run(self, *commands, together=1):
        """Runs commands, some of them at the same time, and gives their figures."""
        if together == 1:
            figures = [self.one(command) for command in commands]
        else:
            with ThreadPoolExecutor(together) as pool:
                figures = list(pool.map(self.one, commands))
        self.pack()
        return figures

    def one(self, command):
        if command.missing:
            return self.keep(command, status="skipped", why=command.missing)
        left = self.left()
        if self.stopped or left < LEAST:
            return self.keep(command, status="skipped", why=f"the {self.minutes:g} minutes are over")
        limit = min(command.limit, left)
        print(f"{self.part} {60 * self.minutes - left:4.0f} s  {command.name}", flush=True)
        begun = time.monotonic()
        rc, stdout, stderr, late = self.call(command, limit)
        seconds = round(time.monotonic() - begun, 2)
        (self.folder / "logs" / f"{command.name}.txt").write_text(f"{stdout}\n--- stderr\n{stderr}")
        result, problem = None, None
        try:
            text = command.file.read_text() if command.file else stdout
            result = command.read(text)
        except (OSError, ValueError, KeyError, IndexError) as error:
            problem = f"its output cannot be read: {error}"
        facts = {"seconds": seconds, "rc": rc, "result": result}
        if late:
            return self.keep(command, status="stopped", why=f"not done in {limit:.0f} s", stderr=stderr, **facts)
        if rc not in command.answers or (problem and rc != 0):
            return self.keep(command, status="failed", why=last_line(stderr) or f"status {rc}", stderr=stderr, **facts)
        if problem:
            return self.keep(command, status="failed", why=problem, stderr=stderr, **facts)
        return self.keep(command, status="ok", **facts)

    def call(self, command, limit):
        """Status, output, error output, and whether it was stopped; with it ends all that it started."""
        arguments = [str(word) for word in command.arguments]
        environment = os.environ | {key: str(value) for key, value in command.environment.items()}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        try:
            child = subprocess.Popen(
                arguments,
                env=environment,
                cwd=command.folder,
                text=True,
                errors="replace",
                start_new_session=True,
                **pipes,
            )
        except OSError as error:
            return 127, "", str(error), False
        with self.lock:
            self.children.add(child)
        late = False
        try:
            stdout, stderr = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            late = True
            end(child, signal.SIGTERM)
            try:
                stdout, stderr = child.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                end(child, signal.SIGKILL)
                stdout, stderr = child.communicate()
        finally:
            # What it left running is nobody's any more.
            end(child, signal.SIGKILL)
            with self.lock:
                self.children.discard(child)
        return child.returncode, stdout, stderr, late

    def stop(self):
        """Ends what runs; nothing more is begun."""
        self.stopped = True
        with self.lock:
            children = list(self.children)
        for child in children:
            end(child, signal.SIGKILL)

    def keep(self, command, stderr="", **facts):
        words = " ".join(str(word) for word in command.arguments)
        figure = {"name": command.name, "part": self.part, **facts, "command": words}
        if stderr and figure["status"] != "ok":
            figure["stderr"] = stderr[-TAIL:]
        write(self.folder / f"{command.name}.json", figure)
        return figure

    def note(self, name, **result):
        """A figure that no command made."""
        write(self.folder / f"{name}.json", {"name": name, "part": self.part, "status": "ok", "result": result})

    def pack(self):
        """All figures and logs in one archive, so that they are safe whatever comes next."""
        part = self.archive.with_name(self.archive.name + ".part")
        with tarfile.open(part, "w:gz") as archive:
            archive.add(self.folder, arcname="figures")
        os.replace(part, self.archive)


def end(child, number):
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def last_line(text):
    """The line of an error output that says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.lower().startswith("error") or "Error:" in line]
    return (told or lines or [""])[-1][:300]
