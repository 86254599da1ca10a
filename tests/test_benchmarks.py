"""The benchmarks run, and what they count is what docs/performance.md says: exact figures are no noise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.machine import TOP

pytestmark = [pytest.mark.processes, pytest.mark.once]

BESIDE = [sys.executable, "-m", "tests.servers", "postgres", "--", sys.executable, "-m"]


def printed(*command: str) -> dict[str, list[str]]:
    """Run a benchmark on a server of its own; give the rows of its tables by their first cell."""
    foreign = ("DATABASE_", "DJANGO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    done = subprocess.run(
        [*BESIDE, *command], cwd=TOP, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_one_request_costs_what_the_docs_say() -> None:
    rows = printed("benchmarks", "--clients", "--samples", "30")
    head = rows.pop("one request")
    counted = {name: dict(zip(head, map(int, row), strict=True)) for name, row in rows.items()}
    exact = ("statements", "commits", "round trips", "row versions")
    assert {name: tuple(row[what] for what in exact) for name, row in counted.items()} == {
        "unprotected": (6, 1, 8, 2),
        "floor": (7, 1, 9, 3),
        "first request": (8, 1, 10, 3),
        "no-op": (1, 1, 3, 0),
        "replay, database": (2, 1, 4, 0),
    }
    assert counted["first request"]["bytes of log"] <= 1.05 * counted["floor"]["bytes of log"]
    assert min(row["µs of CPU in Python"] for row in counted.values()) > 0


def test_every_form_of_the_view_is_served_and_compared() -> None:
    rows = printed("benchmarks", "--clients", "2", "--rounds", "1", "--seconds", "0.2", "--samples", "2")
    ratios = {name: row for name, row in rows.items() if " / " in name}
    assert len(ratios) == 8
    assert all(float(row[0]) > 0 for row in ratios.values())


def test_growth_and_hot_key_run() -> None:
    grown = printed("benchmarks.growth", "--records", "1000", "3000", "--samples", "20")
    assert set(grown) == {"live records", "1,000", "3,141"}
    storms = printed("benchmarks.hot_key", "--storms", "1")
    assert {name: row[2] for name, row in storms.items()} == {
        "1,000 retries": "effects",
        "while running": "1",
        "after it": "0",
    }
