"""``manage.py purge_idempotency_records``: delete expired records; made for cron."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.utils import timezone

from django_idempotency.claims.errors import remedy
from django_idempotency.claims.retention import PurgeLimits, PurgeResult, purge_expired
from django_idempotency.management.arguments import (
    batch_size,
    chosen_database,
    pause,
    positive_float,
    positive_int,
)
from django_idempotency.management.texts import counted
from django_idempotency.models import IdempotencyRecord

tqdm: Callable[..., AbstractContextManager[Any]] | None
try:
    from tqdm import tqdm
except ImportError:  # the extra "progress"
    tqdm = None


class Command(BaseCommand):
    """Deletes expired records in short batches; safe beside live traffic and beside another purge."""

    help = "Delete expired idempotency records. Records that have not expired are never touched."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Count what has expired and delete nothing."
        )
        parser.add_argument(
            "--batch-size", type=batch_size, default=1000, help="Records per transaction, 1 to 10000 (1000)."
        )
        parser.add_argument("--max-rows", type=positive_int, help="Stop after this many records.")
        parser.add_argument(
            "--max-seconds", type=positive_float, help="Begin no batch after this many seconds."
        )
        parser.add_argument(
            "--sleep", type=pause, default=0.0, help="Rest for this many seconds after each batch."
        )
        parser.add_argument("--database", help="Alias of the database that keeps the records.")
        parser.add_argument("--format", choices=("text", "json"), default="text", help="Form of the report.")

    def handle(self, *args: Any, **options: Any) -> None:
        using = chosen_database(options["database"])
        try:
            report = self._dry_run(using) if options["dry_run"] else self._purge(using, options)
        except Error as error:
            raise CommandError(
                f"The records on {using!r} cannot be purged: {error}{remedy(error)}"
            ) from error
        if options["format"] == "json":
            self.stdout.write(json.dumps(report))
        elif options["verbosity"] > 0:
            self.stdout.write(_text(report))

    def _dry_run(self, using: str) -> dict[str, Any]:
        return {"database": using, "dry_run": True, "expired": _expired(using)}

    def _purge(self, using: str, options: dict[str, Any]) -> dict[str, Any]:
        limits = PurgeLimits(
            options["batch_size"], options["max_rows"], options["max_seconds"], options["sleep"]
        )
        with _progress_bar(using, options["format"]) as bar:
            result: PurgeResult = purge_expired(
                using, limits, bar.update if bar is not None else lambda count: None
            )
        return {
            "database": using,
            "dry_run": False,
            "deleted": result.deleted,
            "batches": result.batches,
            "finished": result.finished,
        }


def _expired(using: str) -> int:
    return IdempotencyRecord.objects.using(using).expired(timezone.now()).count()


def _progress_bar(using: str, form: str) -> AbstractContextManager[Any]:
    """Return a bar on standard error for somebody who looks at it; nothing for cron, JSON, or without tqdm."""
    if tqdm is None or form == "json" or not sys.stderr.isatty():
        return nullcontext()
    return tqdm(total=_expired(using), unit=" records", desc="Purging", file=sys.stderr)


def _text(report: dict[str, Any]) -> str:
    if report["dry_run"]:
        return (
            f"{counted(report['expired'], 'expired record')} on {report['database']!r}; "
            "nothing was deleted (--dry-run)."
        )
    deleted = counted(report["deleted"], "expired record")
    batches = counted(report["batches"], "batch", "batches")
    done = f"Deleted {deleted} on {report['database']!r} in {batches}."
    return done if report["finished"] else f"{done} More have expired: a limit ended this run, run it again."
