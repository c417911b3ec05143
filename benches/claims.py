"""What the parts of a claim and its end cost: pgbench sends the statements of the registry as they are, and in turns
with parts left out, on a private Postgres.

    python3 benches/claims.py [--clients N] [--seconds N] [--rounds N] [--looks]

With --looks it is a look of a worker at the queue instead, with nothing to do and with a job: without seats of gangs,
with a statement of its own that looks for a seat, and as the worker does it.

Parts are left out to be measured only; the product does not work without them. A line is a variant: pairs of claim
and end a second (median, least and most), and of the bare pair in the same round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKER = "00000000-0000-0000-0000-000000000001"

BARE = [
    r"""update jobs
set state = 'running', attempt = attempt + 1, worker_id = '00000000-0000-0000-0000-000000000001',
    lease_expires_at = now() + interval '30 seconds'
where id = (select id from jobs where state = 'queued' and waits = 0 and run_after <= now()
            order by priority desc, created_at, id limit 1 for update skip locked)
returning id, attempt""",
    r"""update jobs set state = 'succeeded', worker_id = null, lease_expires_at = null, ended_at = now()
where id = :id and attempt = :attempt and lease_expires_at is not null""",
]


def statement(*parts):
    """The statement of the registry that has all of these parts."""
    found = []
    for file in (ROOT / ".sqlx").glob("*.json"):
        query = json.loads(file.read_text())["query"]
        if all(part in query for part in parts):
            found.append(query)
    if len(found) != 1:
        sys.exit(f"{len(found)} statements have {parts}")
    return found[0]


def filled(query, values):
    for number, value in sorted(enumerate(values, 1), reverse=True):
        query = query.replace(f"${number}", value)
    return query


def ours():
    claim = statement("with candidate as", "skip locked", "insert into attempts")
    end = statement("with done as", "update attempts", "'succeeded'")
    offers = ["array['ingest']", "array[]::bigint[]", "'{}'::jsonb", "array[]::uuid[]"]
    claim = filled(claim, [f"'{WORKER}'::uuid", "'host'", "30", *offers])
    # pgbench keeps what it is told to keep, as text, and has no use for the rest.
    claim = claim[: claim.rindex("select id")] + "select id, attempt " + claim[claim.rindex("from claimed") :]
    return claim, filled(end, [":id", ":attempt", "0", "null", "0"])


def variants():
    claim, end = ours()
    no_row = claim[: claim.index(", opened as")] + claim[claim.rindex("select id, attempt") :]
    done = end[end.index("update jobs") : end.index("returning id")]
    at_end = f"""with done as ({done} returning id, attempt, worker_id, started_at)
        insert into attempts (job_id, number, worker_id, host, started_at, ended_at, outcome)
        select id, attempt, '{WORKER}', 'host', started_at, now(), 'succeeded' from done"""
    no_worker = "alter table attempts drop constraint attempts_worker_fkey"
    no_job = "alter table attempts drop constraint attempts_job_fkey"
    return {
        "bare": (BARE, []),
        "ours": ((claim, end), []),
        "room for a second version of a row": ((claim, end), ["alter table attempts set (fillfactor = 50)"]),
        "no reference to workers": ((claim, end), [no_worker]),
        "no reference to jobs": ((claim, end), [no_job]),
        "neither reference": ((claim, end), [no_worker, no_job]),
        "row written once, at the claim": ((claim, done), []),
        "row written once, at the end": ((no_row, at_end), []),
        "the same, no reference to workers": ((no_row, at_end), [no_worker]),
        "no row": ((no_row, done), []),
    }


def looks():
    claim, end = ours()
    seat = statement("with free as", "update seats")
    offers = ["array['ingest']", "array[]::bigint[]", "'{}'::jsonb", "array[]::uuid[]"]
    seat = filled(seat, [f"'{WORKER}'::uuid", "'host'", *offers])
    look = filled(statement("lease_expires_at < now()", "select exists", "from gangs"), ["array[]::uuid[]"])
    lost = look[: look.rindex(",")]
    none = claim.replace("array['ingest']", "array['train']", 1)
    return {
        "nothing to do, no seats": ((lost, none), []),
        "nothing to do, a statement for seats": ((lost, seat, none), []),
        "nothing to do, asked along": ((look, none), []),
        "a job, no seats": ((lost, claim, end), []),
        "a job, a statement for seats": ((lost, seat, claim, end), []),
        "a job, asked along": ((look, claim, end), []),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--looks", action="store_true")
    parser.add_argument("--bin", default=ROOT / "target/release")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chmod(home, 0o755)
        # Planned once, as the connection that claims is set up (decision 15).
        environment = dict(os.environ, PALETTE_HOME=home + "/home", PGOPTIONS="-c plan_cache_mode=force_generic_plan")
        environment.pop("DATABASE_URL", None)
        scheduler = Path(args.bin) / "scheduler"

        def run(*command):
            done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{command[0]} failed: {done.stderr}")
            return done.stdout

        run(scheduler, "up")
        try:
            url = run(scheduler, "url").strip()
            programs = Path(max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)))
            measure(args, url, programs, run)
        finally:
            run(scheduler, "down")


def measure(args, url, programs, run):
    def on(name, sql):
        run(programs / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", sql, at(name))

    def at(name):
        return url.replace("/palette?", f"/{name}?")

    chosen = looks() if args.looks else variants()
    rates = {name: [] for name in chosen}
    for number, (statements, changes) in enumerate(chosen.values()):
        on("palette", f"create database part_{number} template template0")
        for file in sorted((ROOT / "migrations").glob("0*.sql")):
            run(programs / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", file, at(f"part_{number}"))
        on(f"part_{number}", f"insert into workers (id, name, host, pid, slots, gpus) values ('{WORKER}', 'w', 'host', 1, 1, 0)")
        for change in changes:
            on(f"part_{number}", change)
    for _ in range(args.rounds):
        for number, (name, (statements, _)) in enumerate(chosen.items()):
            on(f"part_{number}", "truncate jobs, attempts cascade")
            jobs = 0 if name.startswith("nothing") else args.seconds * 10000
            on(
                f"part_{number}",
                f"""insert into jobs (id, kind, name, owner, payload, created_at)
                select (lpad(to_hex(n), 8, '0') || substr(md5(n::text), 9))::uuid, 'ingest', 'empty', 'bench', '{{}}',
                    now() + n * interval '1 us' from generate_series(1, {jobs}) n""",
            )
            on(f"part_{number}", "vacuum analyze jobs")
            with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
                # What a statement finds is kept for the one behind it; where nothing may be found, nothing is.
                keeps = [" \\gset" if "returning" in one and ":id" in after else ";"
                         for one, after in zip(statements, [*statements[1:], ""])]
                script.write("".join(f"{one}{keep}\n" for one, keep in zip(statements, keeps)))
                script.flush()
                said = run(
                    programs / "pgbench",
                    *("--no-vacuum", "--protocol=prepared", "--jobs=1", f"--client={args.clients}"),
                    *(f"--time={args.seconds}", "--file", script.name, at(f"part_{number}")),
                )
            rate = next(line for line in said.splitlines() if line.startswith("tps = "))
            rates[name].append(float(rate.split()[2]))
    what, of = ("looks", "those without seats") if args.looks else ("pairs", "the bare ones")
    print(f"| {args.clients} clients | {what} a second | of {of} |\n|---|---|---|")
    for name, own in rates.items():
        first = name.split(",")[0]
        base = rates[f"{first}, no seats" if args.looks else "bare"]
        ratios = [rate / bare for rate, bare in zip(own, base)]
        print(f"| {name} | {spread(own, ',.0f')} | {spread(ratios, '.2f')} |")


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


main()
