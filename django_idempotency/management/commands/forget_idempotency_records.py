"""``manage.py forget_idempotency_records``: delete what is kept of one caller, for requests for erasure."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from django_idempotency.claims.errors import remedy
from django_idempotency.claims.retention import delete_chosen, find
from django_idempotency.management.arguments import batch_size, chosen_database, some_text
from django_idempotency.management.texts import counted
from django_idempotency.models import IdempotencyRecord


class Command(BaseCommand):
    """Deletes the records of a scope in short batches, live ones too: their keys then count as unused."""

    help = (
        "Delete the idempotency records of one caller, live ones too: "
        "a retry with the key of a live one then runs again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--scope",
            type=some_text,
            required=True,
            help="Whose records, as the admin shows it: user:7 for every route, or a whole scope.",
        )
        parser.add_argument("--key", type=some_text, help="Only the records of this key.")
        parser.add_argument("--dry-run", action="store_true", help="Count the records and delete nothing.")
        parser.add_argument(
            "--batch-size", type=batch_size, default=1000, help="Records per transaction, 1 to 10000 (1000)."
        )
        parser.add_argument("--database", help="Alias of the database that keeps the records.")
        parser.add_argument("--format", choices=("text", "json"), default="text", help="Form of the report.")

    def handle(self, *args: Any, **options: Any) -> None:
        using = chosen_database(options["database"])
        try:
            report = _work(using, options)
        except Error as error:
            raise CommandError(
                f"The records on {using!r} cannot be deleted: {error}{remedy(error)}"
            ) from error
        if options["format"] == "json":
            self.stdout.write(json.dumps(report))
        elif options["verbosity"] > 0:
            self.stdout.write(_text(report, using))
        if held := report["held"]:
            who = "is held by a running request" if held == 1 else "are held by running requests"
            raise CommandError(f"{counted(held, 'record')} {who}: run this again.")


def _work(using: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what was found, how many of that are live, deleted, and held by a running operation."""
    report = {
        "database": using,
        "dry_run": options["dry_run"],
        "found": 0,
        "live": 0,
        "deleted": 0,
        "held": 0,
    }
    records = IdempotencyRecord.objects.using(using).all()
    for batch in find(using, options["scope"], options["key"], options["batch_size"]):
        report["found"] += len(batch)
        report["live"] += sum(found.live for found in batch)
        if not options["dry_run"]:
            gone = delete_chosen(records, [found.id for found in batch])
            report["deleted"] += len(gone)
            report["held"] += len(batch) - len(gone)
    return report


def _text(report: dict[str, Any], using: str) -> str:
    if not report["found"]:
        return f"No such records on {using!r}. A scope is written as the admin shows it: user:7, for example."
    found = f"{counted(report['found'], 'record')} on {using!r}, {report['live']} of them live"
    if report["dry_run"]:
        return (
            f"Would delete {found}: a retry with the key of a live one would run again. Nothing was deleted."
        )
    return f"Deleted {report['deleted']} of {found}: a retry with the key of a live one runs again."
