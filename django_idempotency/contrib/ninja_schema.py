"""What a guarded operation of Django Ninja adds to the OpenAPI schema."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django_idempotency.conf import conf
from django_idempotency.exceptions import FingerprintMismatch, InProgress, KeyMissing
from django_idempotency.http import header_names, problem_of
from django_idempotency.options import Options

_REFUSALS = (KeyMissing, InProgress, FingerprintMismatch)


def described(
    extra: dict[str, Any], options: Options, methods: Iterable[str], statuses: Collection[Any]
) -> dict[str, Any]:
    """Return ``extra`` with the key's header and the refusals, but for ``statuses`` that are described already."""
    if not {*methods} & {*conf.prefer(options.methods, "METHODS")}:
        return extra
    problems = {problem_of(kind()).status: kind.title for kind in _REFUSALS}
    own = {status: _answer(title) for status, title in problems.items() if status not in statuses}
    header = [] if options.key else [_header(required=conf.prefer(options.required, "REQUIRED"))]
    return {
        **extra,
        "parameters": [*header, *extra.get("parameters", ())],
        "responses": {**own, **extra.get("responses", {})},
    }


def _header(*, required: bool) -> dict[str, Any]:
    return {
        "in": "header",
        "name": header_names()[0],
        "required": required,
        "description": "One unique value per action: every retry with it gets the first answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": conf.KEY_MAX_LENGTH},
    }


def _answer(title: str) -> dict[str, Any]:
    media_type = "application/problem+json" if conf.ERROR_FORMAT == "problem" else "application/json"
    return {"description": title, "content": {media_type: {"schema": {"type": "object"}}}}
