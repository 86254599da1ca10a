"""Arguments that the commands share: each is checked, and a bad one is named with what is wrong with it."""

from __future__ import annotations

import argparse

from django.core.management.base import CommandError
from django.db import connections

from django_idempotency.claims.registry import record_alias

MAX_BATCH = 10_000


def chosen_database(alias: str | None) -> str:
    """Return the alias to work on: the one that was asked for, else the one that keeps the records."""
    using = alias or record_alias()
    if using not in connections:
        raise CommandError(f"There is no database {using!r}: choose one of {', '.join(connections)}.")
    return using


def some_text(text: str) -> str:
    """Return a text that is not empty, and that a database takes."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!a} holds what cannot be printed")
    return text


def positive_int(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def batch_size(text: str) -> int:
    """Return how many records one transaction may touch."""
    if (size := positive_int(text)) > MAX_BATCH:
        raise argparse.ArgumentTypeError(
            f"{text!r} is more than {MAX_BATCH}: large transactions hold locks for long"
        )
    return size


def positive_float(text: str) -> float:
    """Return a number of seconds above 0."""
    if not 0 < (value := _number(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def pause(text: str) -> float:
    """Return a number of seconds, which may be 0."""
    if not 0 <= (value := _number(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
