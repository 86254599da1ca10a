"""Days of churn: how much larger is the table than its live records need, when each hour brings and purges some?

Run beside a private server: `python -m tests.servers postgres --durable -- python -m benchmarks.churn`. The hours pass
in seconds, so autovacuum looks every second instead of every minute, and does not rest.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import timedelta

import django

from benchmarks.growth import FILL, TABLE, execute

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

RETENTION_HOURS = 24
EXPIRY = "now() + interval '24 hours' * (n %% 86400) / 86400"
SIZES = f"SELECT pg_table_size('{TABLE}'), pg_indexes_size('{TABLE}')"


def one_hour(hour: int, records: int) -> int:
    """Insert the records of an hour and purge those of a day before, as the purge command does; give how many."""
    from django.utils import timezone

    from django_idempotency.claims.retention import delete_batch
    from django_idempotency.models import IdempotencyRecord

    now = timezone.now() + timedelta(hours=hour)
    first = now + timedelta(hours=RETENTION_HOURS)
    fill = FILL.replace(EXPIRY, "%s + interval '1 hour' * (n %% 86400) / 86400")
    execute(fill, first, hour * records + 1, (hour + 1) * records)
    deleted = 0
    while count := delete_batch(IdempotencyRecord.objects.expired(now), 1000):
        deleted += count
    return deleted


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.churn", description=__doc__)
    parser.add_argument("--records", type=int, default=40_000, help="of one hour")
    parser.add_argument("--hours", type=int, default=72)
    options = parser.parse_args()
    django.setup()
    from benchmarks.__main__ import prepare, table

    prepare()
    for setting in ("autovacuum = on", "autovacuum_naptime = '1s'", "autovacuum_vacuum_cost_delay = 0"):
        execute(f"ALTER SYSTEM SET {setting}")
    execute("SELECT pg_reload_conf()")
    rows, fresh, started = [], 0.0, time.monotonic()
    for hour in range(options.hours):
        deleted = one_hour(hour, options.records)
        live = execute(f"SELECT count(*) FROM {TABLE}")[0]
        heap, indexes = execute(SIZES)
        if not deleted:
            fresh = (heap + indexes) / live
        if hour % 12 == 11:
            ratio = (heap + indexes) / live / fresh
            rows.append(
                [str(hour + 1), f"{live:,}", f"{heap / live:.0f}", f"{indexes / live:.0f}", f"{ratio:.2f}"]
            )
    table(
        ["hours", "live records", "heap, bytes each", "indexes, bytes each", "size / never purged"],
        iter(rows),
    )
    print(
        f"{options.records * options.hours / (time.monotonic() - started):,.0f} records a second came and went"
    )


if __name__ == "__main__":
    main()
