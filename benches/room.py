"""The control room on a long history: how soon a page is there, what curves cost, what open pages cost the database,
beside the servers of MLflow and Aim with the same runs.

    cargo build --release -p scheduler
    # VENV: a virtual environment with mlflow 3.17.2 and aim 3.29.1
    python3 benches/room.py [--runs 10000] [--points 2500] [--long 10] [--long-points 1000000] [--peers VENV]

Everything is made in a private Postgres and folders of its own, which are removed at the end. Runs have four series of
--points each; --long runs have one of --long-points beside. A time is the median of --rounds answers, each over a new
connection, with the first one before it; "size" is the body, and for pages all that a browser loads with it but
pictures. What is shared or cached is old by then: between two answers lie --pause seconds.

Aim keeps a folder a run; --aim-runs of them are made (making one takes it tens of milliseconds).
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERIES = ["loss", "noise/0", "noise/4", "images_per_second"]

FILL = """
-- Without triggers, which are for what programs submit.
set session_replication_role = replica;
insert into experiments (id, name) values (gen_random_uuid(), 'bench') on conflict do nothing;
create temporary table made as
select n, gen_random_uuid() as id, 1 + n %% 3 as seed, 1e-4 * (1 + n / 3 %% 5) as rate, 64 * (1 + n / 15 %% 4) as width
from generate_series(1, %(runs)d) n;
insert into jobs (id, kind, state, name, owner, payload, run_id, created_at, started_at, ended_at, attempt, attempts_used)
select id, 'train', case when n %% 20 = 0 then 'failed' else 'succeeded' end::job_state, 'bench-' || n, 'user-' || n %% 7,
    '{}', null, now() - n * interval '1 minute', now() - n * interval '1 minute', now() - n * interval '30 seconds', 1, 1
from made;
insert into runs (id, kind, experiment_id, name, owner, config, config_digest, seed, uri, total_steps, last_step, latest,
    created_at)
select made.id, 'train', experiments.id, 'bench-' || n, 'user-' || n %% 7,
    jsonb_build_object('name', 'bench-' || n, 'seed', seed, 'train', jsonb_build_object('learning_rate', rate,
        'steps', %(points)d, 'batch_size', 64), 'model', jsonb_build_object('model_channels', width)),
    md5(n::text) || md5(n::text), seed, '/runs/' || n, %(points)d, %(points)d,
    '{"loss": 0.1, "images_per_second": 60}'::jsonb || jsonb_build_object('loss', 0.1 + random() / 10),
    now() - n * interval '1 minute'
from made, experiments where experiments.name = 'bench';
update jobs set run_id = id where kind = 'train' and run_id is null;
insert into series (run_id, name) select id, name from made, unnest(array[%(series)s]) name;
insert into series (run_id, name) select id, 'long' from made where n <= %(long)d;
update runs set last_step = %(long_points)d, total_steps = %(long_points)d from made where made.id = runs.id and n <= %(long)d;
insert into metrics (series_id, step, attempt, value)
select id, step, 1, 1 / (1 + step / 100.0) + random() / 10
from series, generate_series(1, case name when 'long' then %(long_points)d else %(points)d end) step;
"""

BLOCKS = """
insert into metric_blocks
select series_id, max(step), attempt, min(step), count(*), 0, min(value), max(value), sum(value)
from metrics group by series_id, attempt, (step - 1) / 64 having count(*) = 64;
analyze;
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stderr[-2000:]}")
    return done.stdout


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def ask(port, path, method="GET", body=None, headers={}):
    """One answer over a new connection: seconds, status, body."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return time.perf_counter() - began, answer.status, content


def measure(options, port, path, method="GET", body=None, headers={}):
    times, size = [], 0
    for _ in range(1 + options.rounds):
        seconds, status, content = ask(port, path, method, body, headers)
        if status != 200:
            return None
        times.append(seconds)
        size = len(content)
        time.sleep(options.pause)
    return times[0], statistics.median(times[1:]), size


def with_assets(port, path):
    """Bytes of a page and of the scripts and styles that it names."""
    text = ask(port, path)[2]
    total = len(text)
    for name in re.findall(rb'(?:src|href)="((?:\./|/)?[^":]+\.(?:js|css))"', text):
        asset = name.decode().removeprefix(".")
        total += len(ask(port, asset if asset.startswith("/") else "/" + asset)[2])
    return total


def row(name, what, measured, size=None):
    if measured is None:
        print(f"| {name} | {what} | does not answer | | |", flush=True)
        return
    first, median, body = measured
    print(f"| {name} | {what} | {1000 * first:.0f} ms | {1000 * median:.0f} ms | {(size or body) / 1000:.0f} kB |", flush=True)


def memory(pid):
    """MiB of a process and of those that it started."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines() if ":" in line)
            if entry.name == str(pid) or status["PPid"].strip() == str(pid):
                total += int(status.get("VmRSS", "0 kB").split()[0])
    return total / 1024


@contextlib.contextmanager
def served(command, port, **options):
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended")
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(port, "/")
                break
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


class OpenPage(threading.Thread):
    """A page as a browser keeps it: a stream of events, and its parts asked for again when one comes."""

    def __init__(self, port, path, end):
        super().__init__(daemon=True)
        self.port, self.path, self.end = port, path, end
        self.asked, self.failed, self.slowest = 0, 0, 0.0

    def run(self):
        try:
            page = ask(self.port, self.path)[2].decode()
            parts = []
            for tag in re.findall(r"<[^>]*data-live=[^>]*>", page):
                address = re.search(r'data-live="([^"]+)"', tag)[1].replace("&amp;", "&")
                wanted = re.search(r'data-on="([^"]+)"', tag)
                parts.append((address, (wanted[1] if wanted else "jobs tick").split()))
            stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            stream.request("GET", "/api/v1/events")
            lines = stream.getresponse()
            kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            while not self.end.is_set():
                line = lines.readline()
                if not line:
                    raise OSError("the stream ended")
                if not line.startswith(b"event:"):
                    continue
                event = line.split(b":")[1].strip().decode()
                for address, wanted in parts:
                    if event in wanted:
                        began = time.perf_counter()
                        kept.request("GET", address, headers={"x-part": "1"})
                        answer = kept.getresponse()
                        answer.read()
                        self.slowest = max(self.slowest, time.perf_counter() - began)
                        self.asked += 1
                        self.failed += answer.status != 200
        except Exception:
            self.failed += 1


def open_pages(options, psql, port, server, count):
    """What that many open pages cost the database, while jobs are told of once a second."""
    end = threading.Event()
    paths = ["/", "/runs", "/queue"]
    pages = [OpenPage(port, paths[number % len(paths)], end) for number in range(count)]
    for page in pages:
        page.start()
    time.sleep(5)
    counted = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    before, began = int(psql(counted)), time.monotonic()
    told = 0
    while time.monotonic() - began < options.seconds:
        psql("select pg_notify('jobs', '')")
        told += 1
        time.sleep(1)
    # What the sessions have counted by then is written a second later.
    time.sleep(2)
    spent = time.monotonic() - began
    statements = int(psql(counted)) - before - told - 1
    end.set()
    print(f"| {count} | {statements / spent:.1f} | {sum(page.asked for page in pages) / spent:.0f} | "
          f"{1000 * statistics.median([page.slowest for page in pages]):.0f} ms | {sum(page.failed for page in pages)} | "
          f"{memory(server.pid):.0f} MiB |", flush=True)


def room(options, work):
    environment = {**os.environ, "PALETTE_HOME": str(work / "home"), "USER": "bench"}
    environment.pop("DATABASE_URL", None)
    scheduler = options.bin / "scheduler"
    run(scheduler, "up", env=environment)
    url = run(scheduler, "url", env=environment).strip()
    psql_program = shutil.which("psql") or next(Path("/usr/lib/postgresql").glob("*/bin/psql"))

    def psql(sql):
        return run(psql_program, "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql).strip()

    port = free_port()
    try:
        began = time.monotonic()
        psql(FILL % {**vars(options), "series": ", ".join(f"'{name}'" for name in SERIES)})
        psql(BLOCKS)
        print(f"{options.runs} runs, {int(psql('select count(*) from metrics')):,} points, made in "
              f"{time.monotonic() - began:.0f} s\n", flush=True)
        with served([scheduler, "room", "--bind", f"127.0.0.1:{port}"], port, env=environment) as server:
            print("| server | what | first | median | size |\n|---|---|---|---|---|")
            for path in ["/", "/runs", "/queue", "/curves"]:
                row("ours", path, measure(options, port, path), with_assets(port, path))
            row("ours", "/api/v1/runs", measure(options, port, "/api/v1/runs"))
            ids = psql(f"select string_agg(run_id::text, ',') from series where name = 'long'")
            row("ours", f"curves of {options.long} runs of {options.long_points:,} points",
                measure(options, port, f"/api/v1/curves?runs={ids}&metrics=long&columns=800"))
            ten = psql("select string_agg(id::text, ',') from (select id from runs where total_steps = "
                       f"{options.points} order by created_at desc limit 10) ten")
            row("ours", f"curves of 10 runs of {options.points:,} points",
                measure(options, port, f"/api/v1/curves?runs={ten}&metrics=loss&columns=800"))
            print(f"\nmemory of the server: {memory(server.pid):.0f} MiB\n")
            print("| open pages | statements a second | parts a second | slowest part, median page | failed | memory |")
            print("|---|---|---|---|---|---|")
            for count in options.pages:
                open_pages(options, psql, port, server, count)
            print(flush=True)
    finally:
        run(scheduler, "down", env=environment)


def mlflow(options, work):
    database, port = work / "mlflow.db", free_port()
    command = [options.peers / "bin/mlflow", "server", "--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root",
               work / "mlruns", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    with served(command, port):
        pass
    now = int(1000 * time.time())
    with sqlite3.connect(database) as filled:
        filled.execute("pragma synchronous = off")
        ids = [f"{number:032x}" for number in range(options.runs)]
        filled.executemany(
            "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, "
            "source_version, lifecycle_stage, artifact_uri, experiment_id) values (?, ?, 'LOCAL', '', '', 'bench', 'FINISHED', ?, ?, "
            "'', 'active', '', 0)", ((id, f"bench-{n}", now - n * 60000, now - n * 30000) for n, id in enumerate(ids)))
        filled.executemany("insert into params (key, value, run_uuid) values (?, ?, ?)",
                           ((key, str(value), id) for n, id in enumerate(ids) for key, value in
                            [("seed", n % 3), ("learning_rate", 1e-4 * (1 + n // 3 % 5)), ("model_channels", 64 * (1 + n // 15 % 4)),
                             ("steps", options.points), ("batch_size", 64)]))
        points = ((key, 1 / (1 + step / 100) + random.random() / 10, now + step, id, step, 0)
                  for id in ids for key in SERIES for step in range(1, options.points + 1))
        filled.executemany("insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, ?)", points)
        for id in ids[:options.long]:
            filled.executemany("insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values ('long', ?, ?, ?, ?, 0)",
                               ((random.random(), now + step, id, step) for step in range(1, options.long_points + 1)))
        filled.executemany("insert into latest_metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)",
                           ((key, random.random(), now + options.points, id, options.points) for id in ids for key in SERIES))
        filled.execute("analyze")
    with served(command, port) as server:
        row("MLflow", "/ (an empty frame)", measure(options, port, "/"), with_assets(port, "/"))
        search = {"experiment_ids": ["0"], "max_results": 100, "order_by": ["attributes.start_time DESC"]}
        row("MLflow", "runs/search, 100 runs, as its page asks",
            measure(options, port, "/ajax-api/2.0/mlflow/runs/search", "POST", json.dumps(search), {"content-type": "application/json"}))
        by_loss = {**search, "order_by": ["metrics.`loss` ASC"]}
        row("MLflow", "the same by loss",
            measure(options, port, "/ajax-api/2.0/mlflow/runs/search", "POST", json.dumps(by_loss), {"content-type": "application/json"}))
        for key, points in [("long", options.long_points), ("loss", options.points)]:
            asked = "&".join(f"run_ids={id}" for id in ids[:10])
            row("MLflow", f"curves of 10 runs of {points:,} points",
                measure(options, port, f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{asked}&metric_key={key}&max_results=800"))
        print(f"\nmemory of MLflow's server: {memory(server.pid):.0f} MiB\n", flush=True)


AIM = """
import random, sys
from aim import Run
for n in range(int(sys.argv[2])):
    run = Run(repo=sys.argv[1], experiment='bench', system_tracking_interval=None, capture_terminal_logs=False)
    run.name = f'bench-{n}'
    run['hparams'] = {'seed': n % 3, 'learning_rate': 1e-4 * (1 + n // 3 % 5), 'model_channels': 64 * (1 + n // 15 % 4)}
    for name in sys.argv[4:]:
        for step in range(int(sys.argv[3])):
            run.track(1 / (1 + step / 100) + random.random() / 10, name=name, step=step)
    run.close()
"""


def aim(options, work):
    repository, port = work / "aim", free_port()
    repository.mkdir()
    python, program = options.peers / "bin/python", options.peers / "bin/aim"
    environment = {**os.environ, "AIM_UI_TELEMETRY_ENABLED": "0", "HOME": str(work)}
    run(program, "init", "--repo", repository, env=environment)
    began = time.monotonic()
    run(python, "-c", AIM, repository, options.aim_runs, options.points, *SERIES, env=environment)
    print(f"Aim: {options.aim_runs} runs made in {time.monotonic() - began:.0f} s")
    with served([program, "up", "--repo", repository, "--host", "127.0.0.1", "--port", port], port, env=environment) as server:
        row("Aim", "/ (an empty frame)", measure(options, port, "/"), with_assets(port, "/"))
        row("Aim", f"search of {options.aim_runs} runs, 45 of them", measure(options, port, "/api/runs/search/run/?q=&limit=45"))
        row("Aim", f"loss of {options.aim_runs} runs, 500 points each",
            measure(options, port, "/api/runs/search/metric/?q=metric.name%20%3D%3D%20%22loss%22&p=500"))
        print(f"\nmemory of Aim's server: {memory(server.pid):.0f} MiB\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="folder of the programs")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=2500, help="points of each of the four series of a run")
    parser.add_argument("--long", type=int, default=10, help="runs with a long series")
    parser.add_argument("--long-points", type=int, default=1_000_000)
    parser.add_argument("--pages", type=lambda text: [int(one) for one in text.split(",")], default=[1, 10, 200])
    parser.add_argument("--seconds", type=float, default=60, help="how long pages stay open")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pause", type=float, default=3)
    parser.add_argument("--peers", type=Path, help="virtual environment with mlflow and aim")
    parser.add_argument("--peers-only", action="store_true", help="leave ours out")
    parser.add_argument("--aim-runs", type=int, default=1000)
    options = parser.parse_args()
    # Postgres may be another user, who passes.
    work = Path(tempfile.mkdtemp(prefix="room", dir="/tmp"))
    work.chmod(0o755)
    try:
        if not options.peers_only:
            room(options, work)
        if options.peers:
            options.peers = options.peers.absolute()
            for peer in [mlflow, aim]:
                try:
                    print("| server | what | first | median | size |\n|---|---|---|---|---|")
                    peer(options, work)
                except (Exception, SystemExit) as error:
                    print(f"{peer.__name__}: {error}", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
