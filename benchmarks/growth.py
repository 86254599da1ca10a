"""Does it stay as fast? First requests and replays beside 10^4, 10^6 and 10^7 live records; bytes per record.

Run beside a private server: `python -m tests.servers postgres --durable -- python -m benchmarks.growth`. PostgreSQL
only; 10^7 records take 6 GB and some minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

TABLE = "django_idempotency_idempotencyrecord"
# As the package writes them: an id of version 5 made from a digest, a key of a UUID's length, an answer of 120 bytes.
FILL = f"""
    INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, request_payload, state, response_status,
        response_headers, response_body, created_at, completed_at, expires_at, attempt)
    SELECT overlay(overlay(md5(n::text) placing '5' from 13) placing 'a' from 17)::uuid,
        'user:' || n %% 100000 || ' orders/protected/', md5('key' || n), 'POST', '/orders/protected/',
        '1:' || md5(n::text) || md5('f' || n), convert_to('{{"product":1,"quantity":1,"note":"benchmark"}}', 'UTF8'),
        'completed', 201, '[["Content-Type", "application/json"]]', convert_to(repeat('x', 120), 'UTF8'),
        now() - interval '1 hour', now() - interval '1 hour',
        now() + interval '24 hours' * (n %% 86400) / 86400, 1
    FROM generate_series(%s, %s) AS n
"""
SIZES = f"""
    SELECT pg_relation_size('{TABLE}'), pg_indexes_size('{TABLE}'), (SELECT count(*) FROM {TABLE})
"""


def execute(sql: str, *parameters: Any) -> Any:
    """Run one statement and give its first row, if it has one."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone() if cursor.description else None


def medians(calls: dict[str, Callable[[], None]], samples: int) -> dict[str, float]:
    """Give the median milliseconds of each call, the calls taking turns."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(samples):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            spent[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(figures) for name, figures in spent.items()}


def measure(samples: int, run: str) -> dict[str, float]:
    """Give the latency of a first request, and of the replay of one of many keys, in this process."""
    from django.core.handlers.wsgi import WSGIHandler

    from benchmarks.exact import Caller
    from benchmarks.requests import FIRST, FLOOR, REPLAY, UNPROTECTED

    application = WSGIHandler()
    forms = (UNPROTECTED, FLOOR, FIRST, REPLAY)
    calls: dict[str, Callable[[], None]] = {form.name: Caller(application, form, run) for form in forms}
    medians(calls, 50)
    return medians(calls, samples)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument("--records", type=int, nargs="*", default=[10**4, 10**6, 10**7])
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    django.setup()
    from benchmarks.__main__ import prepare, table

    prepare()
    rows, filled = [], 0
    for records in sorted(options.records):
        for start in range(filled, records, 500_000):
            execute(FILL, start + 1, min(start + 500_000, records))
        filled = records
        execute(f"VACUUM ANALYZE {TABLE}")
        execute("CHECKPOINT")
        heap, indexes, count = execute(SIZES)
        found = measure(options.samples, f"growth-{records}")
        figures = (f"{milliseconds:.2f}" for milliseconds in found.values())
        rows.append([f"{count:,}", *figures, f"{heap / count:.0f}", f"{indexes / count:.0f}"])
    heads = [f"{name}, ms" for name in found]
    table(["live records", *heads, "heap, bytes a record", "indexes, bytes a record"], iter(rows))


if __name__ == "__main__":
    main()
