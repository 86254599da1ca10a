"""Check a deployment of your own against the IETF draft, over HTTP."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_idempotency.conformance import Result, run
from django_idempotency.endpoints import KEY, REPLAYED, Endpoint, Unreachable
from django_idempotency.management.arguments import positive_float

_DAY = 24 * 60 * 60


class Command(BaseCommand):
    """Send the draft's requests to one endpoint and tell, row by row, how it answers."""

    help = (
        "Check an endpoint against the IETF draft, over HTTP. "
        "It has real effects there, about a dozen: take a test system."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", type=_url, help="The guarded endpoint.")
        parser.add_argument(
            "--method", choices=["POST", "PATCH"], default="POST", help="What to send (POST)."
        )
        parser.add_argument("--body", type=_json, default="{}", help="A payload that succeeds ({}).")
        parser.add_argument(
            "--other-body", type=_json, help="Another payload (the first with one more member)."
        )
        parser.add_argument(
            "--header",
            type=_header,
            action="append",
            default=[],
            help="A header such as 'Authorization: …'; may be repeated.",
        )
        parser.add_argument("--required", action="store_true", help="A key is required there.")
        parser.add_argument(
            "--timeout", type=_seconds, default=30.0, help="Seconds to wait for an answer (30)."
        )
        parser.add_argument(
            "--key-header", type=_name, default=KEY, help=f"The header to send keys in ({KEY})."
        )
        parser.add_argument(
            "--replayed-header",
            type=_name,
            default=REPLAYED,
            help=f"The header that marks a replay ({REPLAYED}).",
        )
        parser.add_argument("--format", choices=["text", "json"], default="text", help="Form of the report.")

    def handle(self, *args: Any, **options: Any) -> None:
        endpoint = Endpoint(
            options["url"],
            options["method"],
            options["body"],
            options["other_body"],
            dict(options["header"]),
            options["required"],
            options["timeout"],
            options["key_header"],
            options["replayed_header"],
        )
        try:
            results = run(endpoint)
        except Unreachable as error:
            raise CommandError(
                f"{error}: is the server running, the URL right, and --timeout long enough?"
            ) from error
        self._report(results, options["format"])
        failed = sum(result.outcome == "fail" for result in results)
        if failed:
            raise CommandError(f"{failed} of {len(results)} rows failed.", returncode=1)

    def _report(self, results: list[Result], form: str) -> None:
        rows = [
            {
                "id": result.row.id,
                "level": result.row.level,
                "name": result.row.name,
                "outcome": result.outcome,
                "reason": result.reason,
            }
            for result in results
        ]
        if form == "json":
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            reason = f": {row['reason']}" if row["reason"] else ""
            self.stdout.write(f"{row['id']:<9}{row['level']:<9}{row['outcome']:<15}{row['name']}{reason}")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL such as https://api.example.com/orders/")
    return text


def _seconds(text: str) -> float:
    if (seconds := positive_float(text)) > _DAY:
        raise argparse.ArgumentTypeError(f"{text!r} is more than a day: give seconds")
    return seconds


def _name(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a header, such as X-Idempotency-Key")
    return text


def _json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error
    return text


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError("a header looks like 'Authorization: Bearer …'")
    return name.strip(), value.strip()
