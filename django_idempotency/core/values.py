"""A function's value as the JSON that is stored of it."""

from __future__ import annotations

import json
from typing import Any

MEDIA_TYPE = "application/json"


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON; raise TypeError with the way out for what JSON cannot hold."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"The value of a function that runs once is stored as JSON, and this one cannot be ({error}): "
            "return None, numbers, strings, lists and dicts, for example a primary key."
        ) from error


def decode(body: bytes) -> Any:
    """Return the value that ``encode()`` was given, as JSON knows it: tuples are lists, keys are strings."""
    return json.loads(body)
