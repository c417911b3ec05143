#!/usr/bin/env python3
"""Runs the fuzz targets in turn and says what came of it.

    make fuzz MINUTES=60                    an hour for each target
    make fuzz MINUTES=5 TARGETS="tar npz"   these alone

Compiles the driver with coverage, which the stable toolchain can, without a sanitizer: what is sought are
panics, sums that overflow, hangs, and memory that is asked for on a file's word. What a target has learned is
kept in target/fuzz/corpus and is where the next run begins. An input that is a finding is written to
target/fuzz/found/TARGET; mend what it shows, and move it to fuzz/findings/TARGET, where a test reads it again.

Ends with 1 where something was found.
"""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "fuzz"
HOST = f"{os.uname().machine}-unknown-linux-gnu"
# LLVM's coverage, as libFuzzer reads it: counters of 8 bits, the places they are of, and what is compared.
COVERAGE = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
]
# After so many findings of one target there is enough to mend.
MOST_FOUND = 5
# Seconds for one input; all but a few take milliseconds.
SLOWEST = 20
MEGABYTES = 2048


def build():
    """Gives the driver's path."""
    flags = json.dumps(COVERAGE)
    command = [
        os.environ.get("CARGO", "cargo"), "build", "--profile", "fuzz", "--target", HOST,
        "--target-dir", str(HOME), "-p", "fuzz", "--features", "libfuzzer", "--bin", "fuzz",
        "--config", f"target.{HOST}.rustflags={flags}",
    ]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(1)
    return HOME / HOST / "fuzz" / "fuzz"


def targets():
    """Names of all targets, from where they are written."""
    names = re.findall(r'^    name: "([^"]+)"', "".join(
        path.read_text() for path in sorted((ROOT / "fuzz" / "src" / "targets").glob("*.rs"))), re.M)
    if not names:
        sys.exit("error: fuzz/src/targets names no target")
    return names


def run(command, environment):
    """Gives what a command printed, its status, and its processor time: the clock says little beside other work."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = child.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return output, child.returncode, usage.ru_utime + usage.ru_stime


def fuzz(driver, name, seconds):
    """Runs one target; after a finding it goes on until its time is over."""
    seeds, corpus, found = (HOME / kind / name for kind in ("seeds", "corpus", "found"))
    for folder in (seeds, corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PALETTE_FUZZ_TARGET": name, "PALETTE_FUZZ_SEEDS": str(seeds)}
    report = {"target": name, "executions": 0, "seconds": 0, "cpu_seconds": 0, "coverage": 0, "features": 0, "found": []}
    before = set(found.iterdir())
    end = time.monotonic() + seconds
    with open(HOME / f"{name}.log", "w") as log:
        while (left := int(end - time.monotonic())) > 0 and len(report["found"]) < MOST_FOUND:
            began = time.monotonic()
            command = [
                str(driver), f"-max_total_time={left}", "-print_final_stats=1", f"-timeout={SLOWEST}",
                f"-rss_limit_mb={MEGABYTES}", "-max_len=65536", "-reload=0", f"-artifact_prefix={found}/",
                f"-dict={ROOT / 'fuzz' / 'dictionaries' / name}.dict", str(corpus), str(seeds),
            ]
            known = ROOT / "fuzz" / "findings" / name
            if known.is_dir():
                command.append(str(known))
            output, returncode, cpu = run(command, environment)
            log.write(output)
            report["seconds"] += round(time.monotonic() - began)
            report["cpu_seconds"] += round(cpu)
            # Of a run that was stopped by a finding the last line with a count says how far it came.
            counts = [int(count) for count in re.findall(r"^#(\d+)\t", output, re.M)]
            units = re.search(r"stat::number_of_executed_units: (\d+)", output)
            report["executions"] += int(units[1]) if units else max(counts, default=0)
            for covered, features in re.findall(r"cov: (\d+) ft: (\d+)", output):
                report["coverage"] = max(report["coverage"], int(covered))
                report["features"] = max(report["features"], int(features))
            new = sorted(path.name for path in set(found.iterdir()) - before)
            if returncode and new == report["found"]:
                # It did not run at all, or ended without an input that shows why.
                report["failed"] = output.strip().splitlines()[-1] if output.strip() else "no output"
                break
            report["found"] = new
    report["corpus"] = len(list(corpus.iterdir()))
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="targets [default: all]")
    parser.add_argument("--minutes", type=float, default=5, help="for each target [default: 5]")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once [default: 1]")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    arguments = parser.parse_args()
    known = targets()
    for name in arguments.targets:
        if name not in known:
            parser.error(f"there is no target `{name}`: {', '.join(known)}")
    if arguments.minutes <= 0 or arguments.jobs < 1:
        parser.error("--minutes and --jobs are above 0")
    driver = build()
    chosen = arguments.targets or known
    reports = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = [pool.submit(fuzz, driver, name, arguments.minutes * 60) for name in chosen]
        for number, one in enumerate(concurrent.futures.as_completed(running), 1):
            reports.append(one.result())
            found = len(reports[-1]["found"])
            print(f"fuzz: {number} of {len(chosen)} targets: {reports[-1]['target']}, {found} found", file=sys.stderr)
    reports.sort(key=lambda report: chosen.index(report["target"]))
    if arguments.json:
        print(json.dumps(reports, indent=2))
    else:
        print("| target | minutes | of a processor | executions | a second | edges | inputs kept | found |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for report in reports:
            cpu = max(report["cpu_seconds"], 1)
            print(f"| {report['target']} | {report['seconds'] / 60:.0f} | {report['cpu_seconds'] / 60:.0f} "
                  f"| {report['executions']:,} "
                  f"| {report['executions'] / cpu:,.0f} | {report['coverage']:,} | {report['corpus']:,} "
                  f"| {len(report['found'])} |")
    bad = [report for report in reports if report["found"] or "failed" in report]
    for report in bad:
        for name in report["found"]:
            print(f"error: {report['target']}: {HOME / 'found' / report['target'] / name}", file=sys.stderr)
        if "failed" in report:
            print(f"error: {report['target']} did not run: {report['failed']}", file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
