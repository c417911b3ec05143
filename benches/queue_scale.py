"""What a thousand workers ask of the database: pgbench sends the registry's own statements, as often as workers send
them, on a private Postgres, with the connections that workers hold.

    python3 benches/queue_scale.py [--workers 10,100,1000] [--seconds N] [--rounds N] [--history N]

Three tables. What each event costs the server, from as many of it as one client and eight clients can send. Then workers
at their pace: idle ones; those that train the paper's network, a step in 17 s; and those that say something each second,
the most that a worker sends. Then a job that comes while all are idle and listen: each asks for it, one gets it.

A line is a median of the rounds. Cores are the processor time of all server processes a second; memory is the
proportional share (PSS) of the same, halfway.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
LEASE = 30

WORKER = "('00000000-0000-4000-8000-' || lpad((:w)::text, 12, '0'))::uuid"
JOB = "(lpad(to_hex((:w)::int + 268435456), 8, '0') || '-0000-4000-8000-000000000000')::uuid"
METRICS = ("loss", "nothing", "gradient_norm", "learning_rate", "images_per_second",
           "waiting", "prepare", "forward", "backward", "optimizer")  # fmt: skip


def statement(*parts):
    """The statement of the registry that has all of these parts."""
    found = []
    for file in (ROOT / ".sqlx").glob("*.json"):
        query = json.loads(file.read_text())["query"]
        if all(part in query for part in parts):
            found.append(query)
    if len(found) != 1:
        sys.exit(f"{len(found)} statements have {parts}")
    return found[0].replace('"stop_requested: StopRequest"', "stop_requested")


def filled(query, *values):
    for number, value in sorted(enumerate(values, 1), reverse=True):
        query = query.replace(f"${number}", value)
    return query


def events():
    """What workers send: name, statements."""
    kinds, none, labels, nobody = "array['train']", "array[]::bigint[]", "'{}'::jsonb", "array[]::uuid[]"
    # A connection that was not used for 20 ms is asked whether it lives.
    ping = "select"
    claim = statement("with candidate as", "skip locked", "insert into attempts")
    lost = statement("select exists", "lease_expires_at < now()", '"lost!"')
    preempt = statement("preempts and run_after <= now()", "priority < jobs.priority")
    watch = statement('extract(epoch from lease_expires_at - now())::float8 as "left!"', "attempt = $2")
    names = f"array[{', '.join(repr(name) for name in METRICS)}]"
    edge = "json_build_object(" + ", ".join(f"'{name}', random()" for name in METRICS) + ")::jsonb"
    ids = f"(select array_agg(id order by id) from series where run_id = {JOB})"
    steps = f"array_fill(:client_id * 1000000::bigint + :step, array[{len(METRICS)}])"
    values = f"(select array_agg(random()) from generate_series(1, {len(METRICS)}))"
    return {
        "look, without a job": [ping, filled(lost, nobody), filled(claim, WORKER, "'host'", "30", kinds, none, labels, nobody)],
        "look, with a job": [ping, filled(lost, f"array[{JOB}]"),
                             filled(preempt, WORKER, kinds, none, labels, f"array[{JOB}]")],
        "renewal, without a job": [ping, filled(statement("update workers set last_seen_at"), WORKER)],
        "renewal, with a job": [ping, filled(statement("update workers set last_seen_at"), WORKER),
                                filled(statement("set lease_expires_at = now() + make_interval", "unnest"),
                                       f"array[{JOB}]", "array[1]", "30")],
        "watch of the job's row": [ping, filled(watch, JOB, "1")],
        "end of the log, 16 KB": [ping, filled(statement("update attempts set log_tail = $3, log_bytes = $4"), JOB, "1",
                                               "(select tail from tails where id = :step % 64)", ":step")],
        "progress": [ping, filled(statement("progress_done = $3"), JOB, "1", ":step", "1000000", "'training'")],
        "ten points of metrics": [
            ping, "begin", filled(statement("lease_expires_at is not null for share"), JOB, "1"),
            filled(statement("select name, id from series"), JOB, names),
            filled(statement("insert into metrics"), "1", ids, steps, values),
            filled(statement("set last_step = greatest", "latest = latest"), JOB, ":step", edge, edge), "commit"],
        "scrape of the metrics": [
            ping, statement("group by state, kind").replace('"state: JobState"', "state").replace('"kind: JobKind"', "kind"),
            filled(statement('"oldest_wait!"'), WORKER)],
        "how full the server is": [ping, statement("pg_stat_activity where datid is not null", "max_connections")],
    }  # fmt: skip


# How often a worker sends each, a second: --poll is 2 s, a lease is renewed after a third, the child looks each 2 s.
LOADS = {
    "idle": {"look, without a job": 1 / 2, "renewal, without a job": 3 / LEASE, "how full the server is": 1 / 20},
    # Batch 1024 at 60 images a second: a step in 17 s, metrics each 100 steps.
    "the paper's": {"look, with a job": 1 / 2, "renewal, with a job": 3 / LEASE, "watch of the job's row": 1 / 2,
                    "progress": 1 / 17, "end of the log, 16 KB": 1 / 17, "ten points of metrics": 1 / 1700,
                    "how full the server is": 1 / 20},
    "all it can": {"look, with a job": 1 / 2, "renewal, with a job": 3 / LEASE, "watch of the job's row": 1 / 2,
                   "progress": 1, "end of the log, 16 KB": 1, "ten points of metrics": 1,
                   "how full the server is": 1 / 20},
    # As the paper's, and Prometheus asks each worker every 15 s.
    "scraped": {},
}  # fmt: skip
LOADS["scraped"] = {**LOADS["the paper's"], "scrape of the metrics": 1 / 15}

# The connection that sends it: a worker with a job holds one, its child holds another for what must not wait and one of a
# pool. Everything else is sent by the worker's.
CHILD = ["watch of the job's row"], ["progress", "ten points of metrics"]
BUSY = 1 + len(CHILD)


class Server:
    """The private Postgres, its programs, and what it takes."""

    def __init__(self, home, binaries, connections):
        self.environment = dict(os.environ, PALETTE_HOME=home + "/home", PGOPTIONS="-c plan_cache_mode=force_generic_plan")
        self.environment.pop("DATABASE_URL", None)
        self.scheduler = Path(binaries) / "scheduler"
        self.programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        self.run(self.scheduler, "up")
        self.url = self.run(self.scheduler, "url").strip()
        self.sql(f"alter system set max_connections = {connections}")
        self.down()
        self.run(self.scheduler, "up")
        self.pid = int((Path(home) / "home/postgres/data/postmaster.pid").read_text().split()[0])

    def run(self, *command):
        done = subprocess.run(list(map(str, command)), env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command[0]} failed: {done.stderr[-2000:]}")
        return done.stdout

    def down(self):
        self.run(self.scheduler, "down")

    def sql(self, sql):
        return self.run(self.programs / "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url).strip()

    def children(self):
        return [int(child) for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def processor(self):
        """Seconds of all its processes, those that have ended included."""

        def ticks(pid, fields):
            try:
                text = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            except OSError:
                return 0
            return sum(int(text[field]) for field in fields)

        return (ticks(self.pid, (11, 12, 13, 14)) + sum(ticks(child, (11, 12)) for child in self.children())) / TICK

    def memory(self):
        total = 0
        for pid in [self.pid, *self.children()]:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return total / 1024

    def pgbench(self, folder, scripts, clients, *options, last=None):
        """Runs scripts, (statements, weight) each; gives the latencies by script, in ms, of all or of the last seconds."""
        folder = tempfile.mkdtemp(dir=folder)
        arguments = []
        for number, (statements, weight) in enumerate(scripts):
            path = Path(folder) / f"{number}.sql"
            head = "\\set w :client_id % :workers\n\\set step :step + 1\n"
            path.write_text(head + "".join(part.strip().rstrip(";") + ";\n" for part in statements))
            arguments += ["--file", f"{path}@{weight}"]
        self.run(self.programs / "pgbench", "--no-vacuum", "--protocol=prepared", f"--jobs={min(2, clients)}",
                        f"--client={clients}", "-D", "step=0", "--log", f"--log-prefix={folder}/latency", *arguments, *options,
                        self.url)  # fmt: skip
        entries = []
        for log in Path(folder).glob("latency*"):
            for line in log.read_text().splitlines():
                _, _, latency, script, second, part = line.split()[:6]
                entries.append((int(script), int(latency) / 1000, int(second) + int(part) / 1e6))
        since = max(entry[2] for entry in entries) - last if last else 0
        latencies = [[] for _ in scripts]
        for script, latency, ended in entries:
            if ended > since:
                latencies[script].append(latency)
        return latencies


def fill(server, workers, history):
    """Workers that each hold a job with a run, and jobs that ended long ago."""
    server.sql(f"""
        insert into workers (id, name, host, pid, slots, gpus)
        select {WORKER.replace(':w', 'n')}, 'w' || n, 'host', n, 1, 1 from generate_series(0, {workers} - 1) n;
        insert into jobs (id, kind, name, owner, payload, state, attempt, worker_id, lease_expires_at, started_at)
        select {JOB.replace(':w', 'n')}, 'train', 'job-' || n, 'bench', '{{}}', 'running', 1, {WORKER.replace(':w', 'n')},
            now() + interval '1 day', now() from generate_series(0, {workers} - 1) n;
        insert into attempts (job_id, number, worker_id, host) select id, 1, worker_id, 'host' from jobs;
        insert into jobs (id, kind, name, owner, payload, state, created_at, ended_at)
        select (lpad(to_hex(n + 536870912), 8, '0') || substr(md5(n::text), 9))::uuid, 'train', 'old-' || n, 'bench', '{{}}',
            'succeeded', now() - interval '30 days', now() - interval '29 days' from generate_series(1, {history}) n;
        insert into experiments (id, name) values ('00000000-0000-4000-8000-000000000000', 'bench');
        insert into runs (id, kind, experiment_id, name, owner, config, config_digest, seed, uri, total_steps)
        select id, 'train', '00000000-0000-4000-8000-000000000000', name, 'bench', '{{}}', 'x', 0, '/runs/' || name, 1000000
        from jobs where state = 'running';
        update jobs set run_id = id where state = 'running';
        insert into series (run_id, name) select runs.id, names.name
        from runs, unnest(array[{', '.join(repr(name) for name in METRICS)}]) as names (name);
        drop table if exists tails;
        create table tails as select id, (select string_agg(md5(id || '-' || line), E'\\n') from generate_series(1, 490) line)
            as tail from generate_series(0, 63) id;
        create unique index on tails (id);""")
    server.run(server.programs / "psql", "-qX", "-c", "vacuum analyze", server.url)


def costs(server, folder, seconds, rounds):
    print(f"| event | server's processor, ms | one client: p50, p99 ms | eight clients: a second |\n|---|---:|---:|---:|")
    everything = events()
    measured = {name: ([], [], [], []) for name in everything}
    for _ in range(rounds):
        for name, statements in everything.items():
            spent, half, most, rate = measured[name]
            (alone,) = server.pgbench(folder, [(statements, 1)], 1, f"--time={seconds}", "-D", "workers=1000")
            before = server.processor()
            (many,) = server.pgbench(folder, [(statements, 1)], 8, f"--time={seconds}", "-D", "workers=1000")
            spent.append((server.processor() - before) * 1000 / len(many))
            half.append(quantile(alone, 0.5))
            most.append(quantile(alone, 0.99))
            rate.append(len(many) / seconds)
    for name, (spent, half, most, rate) in measured.items():
        middle = statistics.median
        print(f"| {name} | {middle(spent):.2f} | {middle(half):.2f}, {middle(most):.2f} | {middle(rate):,.0f} |", flush=True)


def loads(server, folder, workers, names, seconds, rounds, warm):
    print("\n| workers | load | connections | events a second: due, done | p50, p99, most ms | renewal: p99 ms | cores | memory, MB |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for count in workers:
        for name in names:
            rows = [pace(server, folder, count, LOADS[name], seconds, warm) for _ in range(rounds)]
            connections, due, done, half, nearly, most, renewal, cores, memory = (statistics.median(column) for column in zip(*rows))
            print(f"| {count:,} | {name} | {connections:,} | {due:,.0f}, {done:,.0f} | {half:.1f}, {nearly:.1f}, {most:.0f} | "
                  f"{renewal:.1f} | {cores:.2f} | {memory:,.0f} |", flush=True)  # fmt: skip


def pace(server, folder, count, load, seconds, warm):
    """So many workers at their pace: a pgbench for each kind of connection, at once."""
    every = events()
    lines = [[event for event in load if not any(event in child for child in CHILD)],
             *([event for event in load if event in child] for child in CHILD)]  # fmt: skip
    lines = [line for line in lines if line]
    # A connection plans each statement when it first sends it, which is long ago for a worker's.
    whole = warm + seconds
    by_event, failures = {}, []

    def send(line):
        scripts = [(every[event], max(1, round(load[event] * 100_000))) for event in line]
        rate = count * sum(load[event] for event in line)
        try:
            latencies = server.pgbench(folder, scripts, count, f"--time={whole}", f"--rate={rate:.4f}",
                                       "-D", f"workers={count}", last=seconds)  # fmt: skip
            by_event.update(zip(line, latencies))
        except SystemExit as failure:
            failures.append(failure)

    senders = [threading.Thread(target=send, args=(line,)) for line in lines]
    for sender in senders:
        sender.start()
    seen, connected, memory = [], None, None
    while any(sender.is_alive() for sender in senders):
        seen.append((time.time(), server.processor()))
        if connected is None and len(server.children()) >= count * len(lines):
            connected = time.time()
        # Before it, for it costs seconds of a core where there are thousands.
        if memory is None and connected is not None and time.time() - connected > warm / 2:
            memory = server.memory()
        time.sleep(1)
    if failures:
        raise failures[0]
    if memory is None:
        sys.exit(f"{count * len(lines)} connections took longer than {warm / 2:.0f} s to be there: give --warm more")
    # The first of them to end takes its connections along, which is no part of it.
    end = next(number for number in range(len(seen)) if seen[-1][0] - seen[number][0] <= 5)
    begin = next(number for number in range(len(seen)) if seen[end][0] - seen[number][0] <= seconds - 5)
    cores = (seen[end][1] - seen[begin][1]) / (seen[end][0] - seen[begin][0])
    everything = [latency for latencies in by_event.values() for latency in latencies]
    renewals = next(latencies for event, latencies in by_event.items() if event.startswith("renewal"))
    due = count * sum(load.values())
    return (count * len(lines), due, len(everything) / seconds, quantile(everything, 0.5), quantile(everything, 0.99),
            max(everything), quantile(renewals, 0.99), cores, memory)  # fmt: skip


def crowds(server, folder, workers, rounds):
    """All workers ask at once, as after a submission; nothing is there for them."""
    print("\n| workers that a job wakes | their claims: p50, p99, most ms |\n|---:|---:|")
    claim = events()["look, without a job"]
    for count in workers:
        rows = []
        for _ in range(rounds):
            (latencies,) = server.pgbench(folder, [(claim, 1)], count, "--transactions=1", "-D", f"workers={count}")
            rows.append((quantile(latencies, 0.5), quantile(latencies, 0.99), max(latencies)))
        half, nearly, most = (statistics.median(column) for column in zip(*rows))
        print(f"| {count:,} | {half:.0f}, {nearly:.0f}, {most:.0f} |", flush=True)


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=lambda text: [int(part) for part in text.split(",")], default=[10, 100, 1000])
    parser.add_argument("--loads", type=lambda text: text.split(","), default=list(LOADS), help=", ".join(LOADS))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--warm", type=int, default=40, help="seconds before those that are measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--history", type=int, default=100_000, help="jobs that ended long ago")
    parser.add_argument("--parts", default="costs,loads,crowds")
    parser.add_argument("--bin", default=ROOT / "target/release")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    # The server and pgbench inherit it: a connection is a descriptor at both ends.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chmod(home, 0o755)
        server = Server(home, args.bin, max(args.workers) * BUSY + 50)
        try:
            fill(server, max(1000, *args.workers), args.history)
            if "costs" in args.parts:
                costs(server, home, max(1, args.seconds // 5), args.rounds)
            if "loads" in args.parts:
                loads(server, home, args.workers, args.loads, args.seconds, args.rounds, args.warm)
            if "crowds" in args.parts:
                crowds(server, home, args.workers, args.rounds)
        finally:
            server.down()


main()
