"""The purge beside the same batched DELETE in plain SQL, two purgers beside one, and requests beside a purge.

Run it beside a private server: `python -m tests.servers postgres --durable -- python -m benchmarks.purge --records
3000000`, or `mariadb`. A third of the records has expired. Each comparison takes turns on one table in one run, so
that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
os.environ.setdefault("ATOMIC_REQUESTS", "1")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

from django_idempotency.claims.retention import PurgeLimits, purge_expired  # noqa: E402
from django_idempotency.models import IdempotencyRecord  # noqa: E402
from example_project.shop.models import Product  # noqa: E402

BATCH = 1000
ROUNDS = 3
TABLE = IdempotencyRecord._meta.db_table
PLAIN = {
    "postgresql": f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM {TABLE} WHERE expires_at <= %s"
    " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
    "mysql": f"DELETE FROM {TABLE} WHERE expires_at <= %s ORDER BY expires_at LIMIT %s",
}
ID = {
    "postgresql": "overlay(overlay(md5(n::text) placing '5' from 13) placing '8' from 17)::uuid",
    "mysql": "insert(insert(md5(n), 13, 1, '5'), 17, 1, '8')",
}
KEY = {"postgresql": "'key-' || n", "mysql": "concat('key-', n)"}
SERIES = {"postgresql": "generate_series(1, {0}) n", "mysql": "(SELECT seq AS n FROM seq_1_to_{0}) numbers"}
#: One record a tenth of a second: the first third has expired, the others do so from tomorrow on.
EXPIRY = {
    "postgresql": "now() + (n - {0} - 10) * interval '0.1 second' + (n > {0})::int * interval '10 days'",
    "mysql": "utc_timestamp(6) + interval (cast(n AS signed) - {0} - 10 + 8640000 * (n > {0})) * 100000 microsecond",
}


def fill(records: int) -> None:
    """Write the records in the order of their ids, and let the database look at them."""
    vendor = connection.vendor
    expiry = EXPIRY[vendor].format(records // 3)
    values = {
        "id": ID[vendor], "scope": "'user:1 api/orders/'", "key": KEY[vendor], "method": "'POST'",
        "path": "'/api/orders/'", "fingerprint": f"'1:{'0' * 64}'", "request_payload": "'{\"product\":1}'",
        "state": "'completed'", "response_status": "201", "response_headers": "'[]'",
        "response_body": f"'{'x' * 200}'", "created_at": expiry,
        "completed_at": expiry, "expires_at": expiry,
        "attempt": "1", "replays": "0", "last_replayed_at": "NULL",
    }  # fmt: skip
    quote = connection.ops.quote_name
    names = [str(field.column) for field in IdempotencyRecord._meta.local_concrete_fields]
    columns = ", ".join(values[name] for name in names)
    with connection.cursor() as cursor:
        if vendor == "mysql":
            cursor.execute("SET GLOBAL innodb_buffer_pool_size = 1073741824")
        cursor.execute(
            f"INSERT INTO {TABLE} ({', '.join(map(quote, names))})"
            f" SELECT {columns} FROM {SERIES[vendor].format(records)} ORDER BY 1"
        )
        cursor.execute(f"ANALYZE {'TABLE' * (vendor == 'mysql')} {TABLE}")


def plain(rows: int) -> int:
    """Delete so many by the database's own means, a batch and a transaction a statement."""
    now, deleted = timezone.now(), 0
    with connection.cursor() as cursor:
        while deleted < rows:
            cursor.execute(PLAIN[connection.vendor], [now, BATCH])
            deleted += cursor.rowcount
            if cursor.rowcount < BATCH:
                break
    return deleted


def ours(rows: int) -> int:
    """Delete so many as the command does."""
    return purge_expired("default", PurgeLimits(BATCH, max_rows=rows)).deleted


def gentle(rows: int) -> int:
    """Delete so many with ``--sleep 0.05``."""
    return purge_expired("default", PurgeLimits(BATCH, max_rows=rows, pause=0.05)).deleted


def work() -> None:
    """Do what standard input says, and tell the seconds and the records: a purger's process."""
    connection.ensure_connection()
    for line in sys.stdin:
        name, rows = line.split()
        started = time.perf_counter()
        deleted = {"ours": ours, "plain": plain, "gentle": gentle}[name](int(rows))
        print(time.perf_counter() - started, deleted, flush=True)


class Purger:
    """A process that purges when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, name: str, rows: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{name} {rows}\n")
        self.process.stdin.flush()

    def result(self) -> tuple[float, int]:
        assert self.process.stdout
        seconds, deleted = self.process.stdout.readline().split()
        return float(seconds), int(deleted)

    def has_result(self) -> bool:
        assert self.process.stdout
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def rate(self, name: str, rows: int) -> float:
        self.start(name, rows)
        seconds, deleted = self.result()
        return deleted / seconds


@contextmanager
def purger() -> Iterator[Purger]:
    """Start a purger, and end it by the end of its input."""
    command = [sys.executable, "-m", "benchmarks.purge", "--worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Purger(process)
        assert process.stdin
        process.stdin.close()


def speeds(one: Purger, rows: int) -> dict[str, list[float]]:
    """Return records a second of both, taking turns."""
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for at in range(ROUNDS):
        for name in list(found)[:: -1 if at % 2 else 1]:
            found[name].append(one.rate(name, rows))
    return found


def together(one: Purger, two: Purger, rows: int) -> tuple[list[float], list[float]]:
    """Return the seconds for so many records of one purger, and of two who share them, taking turns."""
    alone, shared = [], []
    for _ in range(ROUNDS):
        alone.append(rows / one.rate("ours", rows))
        started = time.perf_counter()
        for each in (one, two):
            each.start("ours", rows // 2)
        deleted = sum(each.result()[1] for each in (one, two))
        assert deleted == rows // 2 * 2
        shared.append(time.perf_counter() - started)
    return alone, shared


def latencies(one: Purger, rows: int, requests: int) -> dict[str, list[float]]:
    """Return the milliseconds of protected requests in turns: without a purge, beside one, beside one that rests."""
    client = Client(headers={"Authorization": f"Token {Token.objects.get().key}"})
    body = f'{{"product": {Product.objects.get().pk}, "quantity": 1}}'
    found: dict[str, list[float]] = {"quiet": [], "ours": [], "gentle": []}
    number = iter(range(10**9))

    def send(found: list[float]) -> None:
        headers: Any = {"Idempotency-Key": f"bench-{next(number)}"}
        started = time.perf_counter()
        response = client.post("/api/orders/", body, content_type="application/json", headers=headers)
        found.append(1000 * (time.perf_counter() - started))
        assert response.status_code == 201, response.content

    for _ in range(20):
        send([])
    for _ in range(ROUNDS):
        for name in ("ours", "gentle"):
            one.start(name, rows)
            begun = len(found[name])
            while len(found[name]) - begun < requests and not one.has_result():
                send(found[name])
            one.result()
        while len(found["quiet"]) < len(found["ours"]):
            send(found["quiet"])
    return found


def shown(values: list[float], form: str = ",.0f") -> str:
    """Return the median, and the least and the most."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def measure(records: int, requests: int) -> None:
    """Fill, compare, and see that nothing live is gone."""
    call_command("migrate", verbosity=0)
    Token.objects.create(user=User.objects.create_user("benchmark"))
    Product.objects.create(name="product", price="9.99", stock=10**9)
    started = time.perf_counter()
    fill(records)
    expired = records // 3
    now = timezone.now()
    live = IdempotencyRecord.objects.live(now).count()
    print(
        f"{connection.vendor}: {records:,} records, {expired:,} expired, {time.perf_counter() - started:.0f} s to fill"
    )
    with ExitStack() as processes:
        one, two = (processes.enter_context(purger()) for _ in "12")
        part = expired // 18 // BATCH * BATCH
        found = speeds(one, part)
        ratio = statistics.median(found["ours"]) / statistics.median(found["plain"])
        print(
            f"records/s: ours {shown(found['ours'])}, plain {shown(found['plain'])}; ratio {ratio:.2f}",
            flush=True,
        )
        alone, shared = together(one, two, part)
        print(
            f"s for {part:,}: one purger {shown(alone, '.2f')}, two {shown(shared, '.2f')};"
            f" ratio {statistics.median(shared) / statistics.median(alone):.2f}",
            flush=True,
        )
        found = latencies(one, part, requests)
        quiet, *beside = (statistics.median(found[name]) for name in ("quiet", "ours", "gentle"))
        print(
            f"ms of {len(found['quiet'])} requests: quiet {quiet:.2f}; beside a purge {beside[0]:.2f}, ratio"
            f" {beside[0] / quiet:.2f}; with --sleep 0.05 {beside[1]:.2f}, ratio {beside[1] / quiet:.2f}",
            flush=True,
        )
    purge_expired("default", PurgeLimits(BATCH))
    gone = live - IdempotencyRecord.objects.filter(key__startswith="key-").live(now).count()
    print(f"live records that are gone: {gone}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=3_000_000)
    parser.add_argument("--requests", type=int, default=150, help="a round")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
    else:
        measure(options.records, options.requests)


if __name__ == "__main__":
    main()
