"""Metadata of records as CSV and JSON: no payload, no headers, no body."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse

from django_idempotency.models import IdempotencyRecord

COLUMNS = (
    "id", "scope", "key", "method", "path", "fingerprint", "state", "response_status",
    "created_at", "completed_at", "expires_at", "attempt", "replays", "last_replayed_at",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def exported(records: Iterable[IdempotencyRecord], form: str) -> HttpResponse:
    """Return the records' metadata as a file."""
    rows = [{name: _plain(getattr(record, name)) for name in COLUMNS} for record in records]
    kind, text = (
        ("application/json", json.dumps(rows, indent=2)) if form == "json" else ("text/csv", _csv(rows))
    )
    headers = {"Content-Disposition": f'attachment; filename="idempotency-records.{form}"'}
    return HttpResponse(text, content_type=f"{kind}; charset=utf-8", headers=headers)


def _csv(rows: list[dict[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _plain(value: Any) -> Any:
    return (
        value
        if value is None or isinstance(value, int)
        else str(getattr(value, "isoformat", lambda: value)())
    )


def _harmless(value: Any) -> Any:
    """Keep a spreadsheet from taking what a client has sent for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
