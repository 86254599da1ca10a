"""What can be counted: statements, transactions, round trips, row versions, bytes of WAL, and CPU time in Python.

One process, one client, no server between: the application is called as gunicorn calls it.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.db import connection
from django.test.utils import CaptureQueriesContext

from benchmarks.requests import Form, environ, keys

LOG = {
    "postgresql": "SELECT pg_current_wal_insert_lsn() - '0/0'",
    "mysql": "SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'",
}
TABLES = "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_user_tables"


class Caller:
    """Sends the requests of one form into the application."""

    def __init__(self, application: WSGIHandler, form: Form, run: str) -> None:
        self.application, self.form = application, form
        self.keys = keys(form, run, 0)

    def __call__(self) -> None:
        statuses: list[str] = []

        def start(status: str, *rest: Any) -> Callable[[bytes], object]:
            statuses.append(status)
            return lambda data: None

        response = self.application(environ(self.form, next(self.keys)), start)
        b"".join(response)
        response.close()
        if not statuses[0].startswith("201"):
            raise RuntimeError(f"{self.form.name}: {statuses[0]}")


def count(forms: Sequence[Form], samples: int) -> dict[str, dict[str, float]]:
    """Count for every form what one request costs."""
    callers = {form.name: Caller(WSGIHandler(), form, "exact") for form in forms}
    # Counts of replays are written once in five seconds, at the end of whichever request that meets.
    request_finished.disconnect(dispatch_uid="django_idempotency.upkeep")
    for call in callers.values():
        for _ in range(20):
            call()
    found: dict[str, dict[str, float]] = {name: {**statements(call)} for name, call in callers.items()}
    for name, call in callers.items():
        found[name] |= {"log": log_bytes(call, samples)} if connection.vendor in LOG else {}
        if connection.vendor == "postgresql":
            found[name] |= {"round trips": round_trips(call), "versions": row_versions(call)}
    for name, figure in cpu(callers, samples).items():
        found[name]["cpu"] = figure
    return found


def statements(call: Caller) -> dict[str, int]:
    """Count statements, and transactions that were committed with something in them."""
    with CaptureQueriesContext(connection) as captured:
        call()
    sent = [query["sql"].split()[0].upper() for query in captured]
    commits = sum(
        one == "COMMIT" and before != "BEGIN" for before, one in zip(["", *sent], sent, strict=False)
    )
    return {"statements": sum(one not in ("BEGIN", "COMMIT") for one in sent), "commits": commits}


def round_trips(call: Caller) -> int:
    """Count how often the client waits for the server, in libpq's own trace."""
    with tempfile.NamedTemporaryFile(prefix="idem-") as trace:
        pgconn = connection.connection.pgconn
        pgconn.trace(trace.fileno())
        call()
        pgconn.untrace()
        lines = Path(trace.name).read_text(encoding="utf-8", errors="replace").splitlines()
    return sum("ReadyForQuery" in line for line in lines)


def log_bytes(call: Caller, samples: int) -> float:
    """Give the bytes of WAL, or redo log, per request; whole pages after a checkpoint are not among them."""
    with connection.cursor() as cursor:
        before = _log(cursor)
        for _ in range(samples):
            call()
        return (_log(cursor) - before) / samples


def _log(cursor: Any) -> int:
    cursor.execute(LOG[connection.vendor])
    return int(cursor.fetchone()[-1])


def row_versions(call: Caller) -> int:
    """Give the row versions that one request writes, in all tables."""
    before = _versions()
    call()
    return _versions() - before


def _versions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT 1")
        cursor.execute(TABLES)
        return int(sum(cursor.fetchone()))


def cpu(callers: dict[str, Caller], samples: int) -> dict[str, float]:
    """Give the median of this process's CPU time per request in microseconds, the forms taking turns."""
    spent: dict[str, list[float]] = {name: [] for name in callers}
    gc.collect()
    gc.disable()
    try:
        for _ in range(samples):
            for name, call in callers.items():
                started = time.process_time_ns()
                call()
                spent[name].append((time.process_time_ns() - started) / 1000)
    finally:
        gc.enable()
    return {name: statistics.median(figures) for name, figures in spent.items()}
