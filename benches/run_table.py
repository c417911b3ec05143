"""How fast the control room's table of runs is over many runs.

    python3 benches/run_table.py --server URL [--runs 10000] [--rounds 20] [--scheduler target/release/scheduler]

Makes a database on that server, starts `scheduler room` on it, fills it with runs of configurations of about 1.2 kB and
ten metrics, five seeds each, and asks for pages one after the other. A line is the median and the slowest of the rounds,
in milliseconds, and the size of the page in kB. The answers that are kept for others who ask the same are passed by: each
round asks for another text. The database is dropped at the end.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request

FILL = """
insert into experiments (id, name) select md5('e' || n)::uuid, 'experiment-' || n from generate_series(1, 40) n;
insert into sweeps (id, name, owner) select md5('s' || n)::uuid, 'sweep-' || n, 'ann' from generate_series(1, 200) n;
with made as (
    insert into runs (id, kind, experiment_id, name, owner, tags, config, config_digest, seed, uri, total_steps,
        last_step, latest, created_at)
    select (lpad(to_hex(n), 8, '0') || substr(md5(n::text), 9))::uuid, 'train', md5('e' || (1 + n % 40))::uuid,
        'run-' || n, 'owner-' || n % 12, array['tag' || n % 7, 'all'],
        jsonb_build_object('name', 'run-' || n, 'seed', n % 5,
            'train', jsonb_build_object('learning_rate', power(10, -(n / 5) % 4)::float8, 'batch_size', 32),
            'model', jsonb_build_object('model_channels', 64 + n / 20 % 64, 'setting', n / 5),
            'other', (select jsonb_object_agg('key_' || k, md5((n / 5 * k)::text)) from generate_series(1, 20) k)),
        'digest', n % 5, '/nowhere', 2000, 2000,
        (select jsonb_object_agg(name, random()) from unnest(array['loss', 'validation/loss', 'images_per_second',
            'grad_norm', 'learning_rate', 'noise/0', 'noise/1', 'noise/2', 'noise/3', 'noise/4']) name where n > 0),
        now() - n * interval '1 min'
    from generate_series(1, {runs}) n
    returning id, name, owner, created_at
)
insert into jobs (id, run_id, kind, state, name, owner, payload, created_at, ended_at, sweep_id, sweep_point)
select id, id, 'train', (array['succeeded', 'succeeded', 'failed', 'cancelled'])[1 + n % 4]::job_state, name, owner,
    '{{}}', created_at, created_at, case when n % 2 = 0 then md5('s' || 1 + n % 200)::uuid end,
    case when n % 2 = 0 then '{{"seed": 1}}'::jsonb end
from (select made.*, row_number() over () as n from made) made;
vacuum analyze;
"""

PAGES = [
    ("newest", "/runs?{}"),
    ("by a metric", "/runs?sort=metric:loss&{}"),
    ("by a key", "/runs?sort=config:train.learning_rate&{}"),
    ("a state, by a metric", "/runs?state=failed&sort=metric:loss&{}"),
    ("a value of a key", "/runs?config=train.learning_rate%3D0.1&{}"),
    ("only what differs", "/runs?differ=1&{}"),
    ("seeds together", "/runs?group=seed&sort=metric:loss&{}"),
    ("the last page", "/runs?page=190&{}"),
    ("JSON, 50 rows", "/api/v1/runs?{}"),
]


def psql(url, *arguments, text=None):
    return subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", *arguments, url], input=text, text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--scheduler", default="target/release/scheduler")
    arguments = parser.parse_args()
    name = f"palette_bench_table_{os.getpid()}"
    url = arguments.server.rsplit("/", 1)[0] + "/" + name
    psql(arguments.server, "-c", f"create database {name}")
    room = None
    try:
        environment = os.environ | {"DATABASE_URL": url}
        command = [arguments.scheduler, "room", "--bind", "127.0.0.1:0"]
        room = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        address = re.search(r"http://[\d.:]+", room.stdout.readline()).group()
        psql(url, text=FILL.format(runs=arguments.runs))
        print(f"{arguments.runs} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'page':24}{'median ms':>10}{'slowest':>10}{'kB':>8}")
        for what, page in PAGES:
            times, size = [], 0
            for number in range(arguments.rounds):
                # All runs fit it, and no two are the same.
                asked = "name=run-*" + "*" * number
                begun = time.perf_counter()
                with urllib.request.urlopen(address + page.format(asked)) as answer:
                    size = len(answer.read())
                times.append(1000 * (time.perf_counter() - begun))
            print(f"{what:24}{statistics.median(times):10.0f}{max(times):10.0f}{size / 1000:8.0f}")
    finally:
        if room:
            room.terminate()
            room.wait()
        psql(arguments.server, "-c", f"drop database {name} with (force)")


if __name__ == "__main__":
    sys.exit(main())
