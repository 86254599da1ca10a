"""`dev.py prove`: every proof in full, or in what fits into some minutes; the findings go into docs/proof.md.

A full dose takes hours, so it may be run part by part: what the others found last is kept in FINDINGS.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

from tests.machine import DEV, TOP, provide
from tests.matrix import (
    DATABASES,
    LANES,
    NEWEST,
    Call,
    Result,
    beside_others,
    call,
    reason_against,
    row_venv,
    skipped,
)

FINDINGS = DEV / "proof"
RAN = "ran"
PAGE = TOP / "docs" / "proof.md"
BEGIN, END = "<!-- dev.py prove writes from here -->\n", "<!-- to here -->"
SERVERS = ("postgres", "mariadb")


class Part(NamedTuple):
    """A proof: its tests, the variable that is its dose, the full dose, and what a unit of it takes on all databases.

    `share` is its part of the time when that is limited; one without a variable always runs whole. A `crowded` one
    needs the cores for itself, the others run on their databases side by side.
    """

    name: str
    tests: tuple[str, ...]
    variable: str = ""
    full: int = 0
    seconds: float = 0.0
    share: int = 0
    databases: Sequence[str] = DATABASES
    crowded: bool = False

    def dose(self, minutes: float | None, others: Sequence[Part]) -> int:
        """Give the dose that fits into this proof's share of some minutes, and no more than the full one."""
        if minutes is None or not self.variable:
            return self.full
        own = minutes * 60 * self.share / sum(part.share for part in others)
        return max(1, min(self.full, int(own / self.seconds)))


PARTS = (
    Part("explorer", ("tests/model",), databases=("sqlite",)),
    Part("races", ("tests/test_races.py",), "RACE_ROUNDS", 10_000, 0.2, 4, crowded=True),
    Part("cuts", ("tests/doors/test_cuts.py",), "CUT_ROUNDS", 500, 0.1, 2, SERVERS),
    Part("deaths", ("tests/test_deaths.py",), "DEATH_ROUNDS", 50, 1.0, 2, SERVERS),
    Part("standby", ("tests/test_standby.py",), "STANDBY_ROUNDS", 200, 2.5, 2, ("postgres",)),
    Part("histories", ("tests/test_history.py", "tests/doors/test_histories.py"), "HISTORY_SECONDS", 1800, 1.8, 5),
    Part("kills", ("tests/doors/test_kills.py",), "KILL_ROUNDS", 1000, 5.0, 8),
    Part("tasks", ("tests/doors/test_celery.py",), "KILL_ROUNDS", 1000, 5.0, 2),
    Part("galera", ("tests/galera/test_races.py",), "GALERA_ROUNDS", 1000, 0.3, 1, ("mariadb",)),
    Part("nodes", ("tests/galera/test_node_deaths.py",), "GALERA_KILLS", 50, 15.0, 1, ("mariadb",)),
    Part("fuzz", ("tests/test_fuzz.py",), "FUZZ_EXAMPLES", 100_000, 0.006, 2, ("sqlite",)),
)  # fmt: skip
NAMES = tuple(part.name for part in PARTS)


class Run(NamedTuple):
    """One proof on one database: how much of it, and what came of it."""

    part: Part
    dose: int
    result: Result


def prove(minutes: float | None, names: Sequence[str] = ()) -> int:
    """Run the proofs of these names, or all, write the page, and give the number of runs that failed."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    os.environ["PROOF_DIR"] = str(FINDINGS)
    parts = [part for part in PARTS if part.name in names or not names]
    runs = []
    for part in parts:
        forget(part)
        done = run(part, minutes, parts)
        keep(RAN, [ran(entry) for entry in done])
        runs += done
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{figures()}\n{END}{tail}", encoding="utf-8")
    failed = [entry for entry in runs if verdict(entry.result) != "passed"]
    for entry in failed:
        print(f"{entry.part.name} on {entry.result.database}: {verdict(entry.result)}")
    return len(failed)


def run(part: Part, minutes: float | None, others: Sequence[Part]) -> list[Run]:
    """Run a proof on its databases, as long as it takes."""
    dose = part.dose(minutes, others)
    if part.variable:
        os.environ[part.variable] = str(dose)
    calls, results = list[Call](), list[Result]()
    for database in part.databases:
        if reason := reason_against(row_venv, NEWEST) or reason_against(provide, database):
            results.append(skipped(NEWEST, database, reason))
        else:
            calls.append(call(NEWEST, database, part.tests, f"{part.name}-{database}", measured=False))
    lanes = 1 if part.crowded else LANES
    results += beside_others(calls, lanes, seconds=None)
    named = [result._replace(database=result.database.removeprefix(f"{part.name}-")) for result in results]
    return [Run(part, dose, result) for result in named]


def forget(part: Part) -> None:
    """Remove what a proof found and how it ran the last time."""
    (FINDINGS / f"{part.name}.jsonl").unlink(missing_ok=True)
    before = found(RAN)
    (FINDINGS / f"{RAN}.jsonl").unlink(missing_ok=True)
    keep(RAN, [row for row in before if row["proof"] != part.name])


def keep(name: str, lines: Sequence[dict[str, Any]]) -> None:
    """Add lines to what is kept between runs."""
    with (FINDINGS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def code() -> str:
    """Name the version of the package: git's short hash of its folder, or that it was changed and not committed."""
    package = "django_idempotency"
    git = ["git", "-C", str(TOP)]
    if subprocess.run([*git, "diff", "--quiet", "HEAD", "--", package], stderr=subprocess.DEVNULL).returncode:
        return "not committed"
    return subprocess.check_output([*git, "rev-parse", "--short=10", f"HEAD:{package}"], text=True).strip()


def verdict(result: Result) -> str:
    """Say in a word or two what came of a run."""
    if result.note:
        return result.note
    failed = result.failed + result.errors
    return f"{failed} FAILED" if failed else "passed"


def figures() -> str:
    """Give what is written into the page: what ran, and a table of each proof's findings."""
    lines = [line for part in PARTS for line in found(part.name)]
    versions = sorted({line["versions"] for line in lines})
    rows = sorted(found(RAN), key=lambda row: NAMES.index(row["proof"]))
    parts = [f"On {os.cpu_count()} cores; `code` is `git rev-parse --short=10 HEAD:django_idempotency`."]
    parts += ["", *(f"- {each}" for each in versions), "", "### What ran", "", table(rows)]
    for part in PARTS:
        own = found(part.name)
        rows = per_database(own) if own and "door" in own[0] else [shown(line) for line in own]
        parts += ["", f"### Findings: {part.name}", "", table(rows) if rows else "None: see what ran."]
    return "\n".join(parts) + "\n"


def ran(entry: Run) -> dict[str, Any]:
    """Give the row of a run."""
    part, result = entry.part, entry.result
    doses = {"dose": "whole", "full dose": "whole"}
    if part.variable:
        doses = {"dose": f"`{part.variable}={entry.dose}`", "full dose": f"{part.full:,}"}
    tests, seconds = result.passed + result.failed + result.errors, round(result.seconds)
    first = {"proof": part.name, "database": result.database, **doses}
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    last = {"day": str(today), "code": code()}
    return {**first, "result": verdict(result), "tests": tests, "seconds": seconds, **last}


def found(name: str) -> list[dict[str, Any]]:
    """Read what is kept between runs: what a proof noted, or what ran."""
    file = FINDINGS / f"{name}.jsonl"
    return (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    )


def shown(line: dict[str, Any]) -> dict[str, Any]:
    """Give a finding as a row."""
    return {name: value for name, value in line.items() if name not in ("proof", "versions")}


def per_database(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give one row for all doors of a database."""
    rows = []
    for database in dict.fromkeys(line["database"] for line in lines):
        own = [line for line in lines if line["database"] == database]
        row = {"database": database, "doors": len(own)}
        row |= {
            name: sum(line[name] for line in own) for name in ("kills", "points", "hit", "duplicates", "lost")
        }
        row["median_ms"] = median(line["median_ms"] for line in own)
        rows.append({**row, "longest_ms": max(line["longest_ms"] for line in own)})
    return rows  # fmt: skip


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Give a table in Markdown."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, ["---"] * len(names), *([cell(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def cell(value: Any) -> str:
    """Give a value as text: numbers with thousands apart, counts of answers in a row."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count:,}" for name, count in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
