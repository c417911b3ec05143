"""What a thousand workers ask of the database: pgbench sends the registry's own statements, as often as workers send
them, on a private Postgres, with the connections that workers hold.

    python3 benches/queue_scale.py [--workers 10,100,1000] [--seconds N] [--rounds N] [--history N]

Three tables. What each event costs the server, from as many of it as one client and eight clients can send. Then workers
at their pace: idle ones; those that train the paper's network, a step in 17 s; and those that say something each second,
the most that a worker sends. Then a job that comes while all are idle and listen: each asks for it and finds it taken,
all at once, and spread over a millisecond for each as workers do it.

A line is a median of the rounds. Cores are the processor time of all server processes a second, from the scheduler's
clocks of those that live and the kernel's sum of those that ended; beside them how long they waited for a core, a
second. Memory is the proportional share (PSS) of the same, before the seconds that count. A line holds if what was due
was done; if the server waited longer than it worked its times are those of too few cores. Where connections were missing
in those seconds there are no figures. What pgbench and others took of the machine stands beside it: where others work on
it, `chrt -r 1` (as root) gives server and pgbench the cores before them.
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
PROCESSORS = os.cpu_count()
# Processes of the server's own that may come and go.
SPARE = 3
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
    seat = statement("update seats set worker_id", "skip locked")
    lost = statement("select exists", "lease_expires_at < now()", '"lost!"')
    preempt = statement("preempts and run_after <= now()", "priority < jobs.priority")
    watch = statement('extract(epoch from lease_expires_at - now())::float8 as "left!"', "attempt = $2")
    names = f"array[{', '.join(repr(name) for name in METRICS)}]"
    edge = "json_build_object(" + ", ".join(f"'{name}', random()" for name in METRICS) + ")::jsonb"
    ids = f"(select array_agg(id order by id) from series where run_id = {JOB})"
    steps = f"array_fill(:client_id * 1000000::bigint + :step, array[{len(METRICS)}])"
    values = f"(select array_agg(random()) from generate_series(1, {len(METRICS)}))"
    return {
        "look, without a job": [ping, filled(lost, nobody), filled(seat, WORKER, "'host'", kinds, none, labels),
                                filled(claim, WORKER, "'host'", "30", kinds, none, labels, nobody)],
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
        "how full the server is": [ping, filled(statement("pg_stat_activity where datid is not null", "max_connections"), "30")],
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

# Connections that the server takes a second, at least, while others begin their work.
CONNECTS = 25
# A load is done where no more is missing than this, and what chance leaves out.
MISSING = 0.02


class Unmeasured(Exception):
    """There is no figure, and why."""


def clock(pid):
    """Seconds that a process with one thread worked and that it waited for a core; none where it is gone."""
    try:
        worked, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return int(worked) / 1e9, int(waited) / 1e9
    except OSError:
        return None


def ticks(pid, *fields):
    text = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(int(text[field]) for field in fields) / TICK


def children(pid):
    """Those of all its threads."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for each in lists for child in each.read_text().split()}


def machine():
    """Seconds that the processors worked, for whomever."""
    user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + interrupts + soft + stolen) / TICK


def bench():
    """Seconds of this process and of its pgbenches."""
    seconds = ticks("self", 11, 12)
    for child in children("self"):
        try:
            seconds += ticks(child, 11, 12)
        except OSError:
            raise Unmeasured("a pgbench ended") from None
    return seconds


class Server:
    """The private Postgres, its programs, and what it takes."""

    def __init__(self, home, binaries, connections, threads):
        self.threads = threads
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

    def processor(self):
        """Seconds that all its processes worked, those that have ended included, and those that each waited."""
        for _ in range(50):
            ended, before = ticks(self.pid, 13, 14), children(self.pid)
            each = {pid: clock(pid) for pid in [self.pid, *before]}
            # A child that ends meanwhile would be in neither sum, or in both. One that begins has done nothing yet.
            if None not in each.values() and before <= children(self.pid) and ended == ticks(self.pid, 13, 14):
                return ended + sum(worked for worked, _ in each.values()), {pid: waited for pid, (_, waited) in each.items()}
        raise Unmeasured("server processes end all the time")

    def memory(self):
        total = 0
        for pid in [self.pid, *children(self.pid)]:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return total / 1024

    def pgbench(self, folder, scripts, clients, *options):
        """Runs scripts, (statements, weight) each; gives by script the ends of its transactions, by the system's clock,
        and how long each took, in ms."""
        folder = tempfile.mkdtemp(dir=folder)
        arguments = []
        for number, (statements, weight) in enumerate(scripts):
            path = Path(folder) / f"{number}.sql"
            head = "\\set w :client_id % :workers\n\\set step :step + 1\n"
            # What begins with a backslash is pgbench's own.
            lines = (part.strip() if part.startswith("\\") else part.strip().rstrip(";") + ";" for part in statements)
            path.write_text(head + "".join(line + "\n" for line in lines))
            arguments += ["--file", f"{path}@{weight}"]
        self.run(self.programs / "pgbench", "--no-vacuum", "--protocol=prepared", f"--jobs={min(self.threads, clients)}",
                        f"--client={clients}", "-D", "step=0", "--log", f"--log-prefix={folder}/latency", *arguments, *options,
                        self.url)  # fmt: skip
        done = [[] for _ in scripts]
        for log in Path(folder).glob("latency*"):
            for line in log.read_text().splitlines():
                _, _, latency, script, second, part = line.split()[:6]
                done[int(script)].append((int(second) + int(part) / 1e6, int(latency) / 1000))
        return done


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
            alone = latencies(server.pgbench(folder, [(statements, 1)], 1, f"--time={seconds}", "-D", "workers=1000"))
            before, _ = server.processor()
            many = latencies(server.pgbench(folder, [(statements, 1)], 8, f"--time={seconds}", "-D", "workers=1000"))
            spent.append((server.processor()[0] - before) * 1000 / len(many))
            half.append(quantile(alone, 0.5))
            most.append(quantile(alone, 0.99))
            rate.append(len(many) / seconds)
    for name, (spent, half, most, rate) in measured.items():
        middle = statistics.median
        print(f"| {name} | {middle(spent):.2f} | {middle(half):.2f}, {middle(most):.2f} | {middle(rate):,.0f} |", flush=True)


def loads(server, folder, workers, names, seconds, rounds, warm):
    print("\n| workers | load | connections | events a second: due, done | p50, p99, most ms | renewal: p99 ms | cores: worked, waited | pgbench, others | memory, MB | holds |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for count in workers:
        for name in names:
            head = f"| {count:,} | {name} | {connections(LOADS[name], count):,} "
            try:
                rows = [pace(server, folder, count, LOADS[name], seconds, warm) for _ in range(rounds)]
            except Unmeasured as reason:
                print(f"{head}| | | | | | | no: {reason} |", flush=True)
                continue
            middle = (statistics.median(column) for column in zip(*rows))
            due, done, half, nearly, most, renewal, worked, waited, bench, others, memory = middle
            holds = "yes"
            # What is due comes by chance. More than that makes up for what was late.
            if abs(due - done) > MISSING * due + 3 * (due / seconds) ** 0.5:
                holds = f"no: {done / due:.0%} done"
            elif waited > worked:
                holds = "times are of too few cores"
            print(f"{head}| {due:,.0f}, {done:,.0f} | {half:.1f}, {nearly:.1f}, {most:.0f} | {renewal:.1f} | {worked:.2f}, {waited:.2f} "
                  f"| {bench:.2f}, {others:.2f} | {memory:,.0f} | {holds} |", flush=True)  # fmt: skip


def lines(load):
    """The events of a load by the connection that sends them."""
    each = [[event for event in load if not any(event in child for child in CHILD)],
            *([event for event in load if event in child] for child in CHILD)]  # fmt: skip
    return [line for line in each if line]


def connections(load, count):
    return count * len(lines(load))


def pace(server, folder, count, load, seconds, warm):
    """So many workers at their pace: a pgbench for each kind of connection, at once."""
    every = events()
    many = connections(load, count)
    patience = 5 + many / CONNECTS
    # A connection plans each statement when it first sends it, which is long ago for a worker's. All are there before
    # the seconds that count, and after them: pgbench ends a client as soon as its next event is due after the end.
    rest = 1.5 / min(sum(load[event] for event in line) for line in lines(load))
    whole = round(patience + warm + seconds + rest)
    by_event, failures = {}, []

    def send(line):
        scripts = [(every[event], max(1, round(load[event] * 100_000))) for event in line]
        rate = count * sum(load[event] for event in line)
        try:
            done = server.pgbench(folder, scripts, count, f"--time={whole}", f"--rate={rate:.4f}", "-D", f"workers={count}")
            by_event.update(zip(line, done))
        except SystemExit as failure:
            failures.append(failure)

    def watch():
        begun = time.time()
        while len(children(server.pid)) < before + many:
            if failures or time.time() - begun > patience:
                raise Unmeasured(f"{many:,} connections took longer than {patience:.0f} s to be there")
            time.sleep(0.1)
        connected = time.time()
        time.sleep(warm / 2)
        # Before what is measured, for it costs seconds of a core where there are thousands.
        memory = server.memory()
        if time.time() - connected > warm:
            raise Unmeasured(f"to look at the memory took {time.time() - connected - warm / 2:.0f} s: give --warm more")
        time.sleep(connected + warm - time.time())
        first = time.time(), *server.processor(), bench(), machine()
        time.sleep(seconds)
        last = time.time(), *server.processor(), bench(), machine()
        if len(children(server.pid)) < before + many - SPARE:
            raise Unmeasured("connections ended too soon")
        return first, last, memory

    # Of the server's own, some come and go.
    before = len(children(server.pid)) - SPARE
    senders = [threading.Thread(target=send, args=(line,)) for line in lines(load)]
    for sender in senders:
        sender.start()
    try:
        first, last, memory = watch()
    finally:
        for sender in senders:
            sender.join()
        if failures:
            raise failures[0]
    length, worked, _, ours, busy = (b - a if type(a) is float else None for a, b in zip(first, last))
    waited = sum(seconds - first[2].get(pid, seconds) for pid, seconds in last[2].items())
    counted = {event: [ms for ended, ms in done if first[0] <= ended <= last[0]] for event, done in by_event.items()}
    everything = [ms for each in counted.values() for ms in each]
    renewals = next(each for event, each in counted.items() if event.startswith("renewal"))
    if not renewals:
        raise Unmeasured("no worker renewed its lease")
    return (count * sum(load.values()), len(everything) / length, quantile(everything, 0.5), quantile(everything, 0.99),
            max(everything), quantile(renewals, 0.99), worked / length, waited / length, ours / length,
            max(0, busy - worked - ours) / length, memory)  # fmt: skip


def crowds(server, folder, workers, rounds):
    """All workers ask, as after a submission; nothing is there for them. They have asked before."""
    print("\n| workers that a job wakes | at once: first, p50, last, ms | spread: first, p50, last, ms |\n|---:|---:|---:|")
    for count in workers:
        row = f"| {count:,} "
        for spread in (False, True):
            rows = [crowd(server, folder, count, spread) for _ in range(rounds)]
            first, half, last = (statistics.median(column) for column in zip(*rows))
            row += f"| {first:.0f}, {half:.0f}, {last:.0f} "
        print(row + "|", flush=True)


def crowd(server, folder, count, spread):
    """When the workers have their answers, in ms after the call: the first, the median, the last."""
    look = events()["look, without a job"]
    # Who waits for this lock is called when it goes, all at once.
    gate = "select pg_advisory_lock_shared(1)"
    wait = ["\\set wait random(0, :workers * 1000)", "\\sleep :wait us"] if spread else []
    script = ["\\if :step = 3", gate, *wait, "\\endif", *look]
    holding = [server.programs / "psql", "-qXAt", server.url]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:

        def said(sql):
            holder.stdin.write(sql + "\n")
            holder.stdin.flush()
            return holder.stdout.readline().strip()

        said("select pg_advisory_lock(1);")
        result, options = [], ("--transactions=3", "-D", f"workers={count}")
        sender = threading.Thread(target=lambda: result.extend(server.pgbench(folder, [(script, 1)], count, *options)))
        sender.start()
        while int(said("select count(*) from pg_locks where locktype = 'advisory' and not granted;")) < count:
            if not sender.is_alive():
                sys.exit("error: pgbench ended before its time")
            time.sleep(0.1)
        called = time.time()
        said("select pg_advisory_unlock(1);")
        sender.join()
        holder.stdin.close()
    ends = sorted(1000 * (ended - called) for ended, _ in result[0] if ended > called)
    return ends[0], quantile(ends, 0.5), ends[-1]


def latencies(done):
    return [ms for each in done for _, ms in each]


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
    parser.add_argument("--threads", type=int, default=2, help="of each pgbench")
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
        server = Server(home, args.bin, max(args.workers) * BUSY + 50, args.threads)
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
