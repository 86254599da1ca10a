"""What a proof found, as a line of JSON for ``dev.py prove``: written where PROOF_DIR says, nowhere without it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from statistics import median
from typing import Any

import django
from django.db import connection


def dose(name: str, default: int) -> int:
    """Return how much of a proof to run: the environment variable ``name``, or what is enough for each change."""
    return int(os.environ.get(name) or default)


def note(proof: str, **figures: Any) -> None:
    """Add a line to the findings of ``proof``."""
    if folder := os.environ.get("PROOF_DIR"):
        first = {"proof": proof, "database": connection.vendor, "versions": versions()}
        line = json.dumps({**first, **figures})
        with Path(folder, f"{proof}.jsonl").open("a", encoding="utf-8") as findings:
            findings.write(f"{line}\n")


def versions() -> str:
    """Return what the proof ran on."""
    server = ".".join(str(number) for number in connection.get_database_version())
    python = f"Python {platform.python_version()}, Django {django.get_version()}"
    return f"{connection.display_name} {server}, {python}"


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Return the middle and the longest of some times, in ms."""
    return {
        "median_ms": round(median(seconds) * 1000, 1),
        "longest_ms": round(max(seconds) * 1000, 1),
    }
