"""``manage.py idempotency_stats``: how it stands with the records, for people, scripts and Prometheus."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from django_idempotency.claims.errors import remedy
from django_idempotency.management.arguments import chosen_database, positive_float
from django_idempotency.stats import COUNT_LIMIT, LATE, Stats, read_stats


class Command(BaseCommand):
    """Tells the figures, and ends with 1 when the purge is behind: a health check for cron, probes and monitoring."""

    help = "Tell how many idempotency records there are, and fail when the purge does not keep up."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--max-age",
            type=positive_float,
            default=LATE.total_seconds(),
            help="Fail when what expired first has waited for more seconds than this (86400).",
        )
        parser.add_argument("--database", help="Alias of the database that keeps the records.")
        parser.add_argument(
            "--format", choices=("text", "json", "prometheus"), default="text", help="Form of the report."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = chosen_database(options["database"])
        try:
            stats = read_stats(using)
        except Error as error:
            raise CommandError(f"The records on {using!r} cannot be read: {error}{remedy(error)}") from error
        self.stdout.write(_FORMS[options["format"]](using, stats))
        oldest = stats.oldest_expired
        if oldest is not None and oldest > timedelta(seconds=options["max_age"]):
            raise CommandError(
                f"The purge does not keep up: the oldest expired record has waited for {_seconds(oldest)} s. "
                "Run purge_idempotency_records, or run it more often."
            )


def _figures(stats: Stats) -> dict[str, int]:
    """Return name and value of each figure that is known."""
    figures = {
        "live_records": stats.live,
        "expired_records": stats.expired,
        "unfinished_records": stats.unfinished,
        "running_operations": stats.running,
        "replays_last_day": stats.replays,
        "conflicts_last_day": stats.conflicts,
        "size_bytes": stats.bytes_kept,
        "oldest_expired_seconds": 0 if stats.oldest_expired is None else _seconds(stats.oldest_expired),
    }
    return {name: value for name, value in figures.items() if value is not None}


_HELP = {
    "live_records": f"Records that have not expired; counted to {COUNT_LIMIT}.",
    "expired_records": f"Records that await the purge; counted to {COUNT_LIMIT}.",
    "unfinished_records": "Records without an answer.",
    "running_operations": "Operations that run now, with a record or without (PostgreSQL).",
    "replays_last_day": "Stored answers that were given to retries in 24 hours.",
    "conflicts_last_day": "Requests refused because of another one with the same key in 24 hours.",
    "size_bytes": "Table and indexes on disk.",
    "oldest_expired_seconds": "How long what expired first has waited for the purge; 0 when nothing waits.",
}


def _text(using: str, stats: Stats) -> str:
    lines = [f"{name.replace('_', ' '):<24}{_capped(value, name)}" for name, value in _figures(stats).items()]
    return "\n".join([f"{'database':<24}{using}", *lines])


def _capped(value: int, name: str) -> str:
    ends = name in ("live_records", "expired_records") and value > COUNT_LIMIT
    return f"{COUNT_LIMIT}+" if ends else str(value)


def _json(using: str, stats: Stats) -> str:
    return json.dumps({"database": using, **_figures(stats)})


def _prometheus(using: str, stats: Stats) -> str:
    lines = []
    for name, value in _figures(stats).items():
        full = f"django_idempotency_{name}"
        lines += [
            f"# HELP {full} {_HELP[name]}",
            f"# TYPE {full} gauge",
            f'{full}{{database="{using}"}} {value}',
        ]
    return "\n".join(lines)


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


_FORMS = {"text": _text, "json": _json, "prometheus": _prometheus}
