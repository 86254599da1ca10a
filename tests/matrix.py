"""The test matrix of `dev.py`: pytest once per row (a Python with a Django) and database, one summary of it all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.machine import CALL_SECONDS, DEV, Unavailable, environment, provide, run, run_side_by_side, venv

ROWS = {"py311-django52": ("3.11", "Django~=5.2.0"), "py313-django61": ("3.13", "Django~=6.1.0")}
NEWEST = "py313-django61"
DATABASES = ("sqlite", "postgres", "mariadb")
#: Tests with a call of their own, by marker: Playwright runs an event loop on their thread, a cluster has servers.
APART = {"browser": ("tests/browser", "postgres"), "galera": ("tests/galera", "mariadb")}
NO_TESTS = 5
#: How many calls run side by side: one more than cores, for each waits half of its time.
LANES = min((os.cpu_count() or 1) + 1, 5)


class Result(NamedTuple):
    """What one pytest call, or its absence, came to."""

    row: str
    database: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    errors: int = 0
    seconds: float = 0.0
    note: str = ""


def row_venv(row: str, extras: str = "test") -> Path:
    """Give the interpreter of a row of the matrix."""
    python, django = ROWS[row]
    return venv(row, python, django, "-e", f".[{extras}]")


def any_venv() -> Path:
    """Give the interpreter of the newest row that this machine has."""
    reason = ""
    for row in reversed(list(ROWS)):
        try:
            return row_venv(row)
        except Unavailable as problem:
            reason = str(problem)
    raise Unavailable(reason)


class Call(NamedTuple):
    """One pytest call to come, beside a database of its own."""

    row: str
    name: str
    python: Path
    command: Sequence[str]
    report: Path


def call(row: str, database: str, arguments: Sequence[str], name: str, *, measured: bool = True) -> Call:
    """Prepare one pytest call; ``name`` goes into the summary. ``measured`` is by coverage, on the newest row."""
    python = row_venv(row)
    report = DEV / "reports" / f"{row}-{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    measure = ["-m", "coverage", "run"] if measured and row == NEWEST else []
    pytest = [str(python), *measure, "-m", "pytest", f"--junit-xml={report}", *arguments]
    beside = [str(python), "-m", "tests.servers", database, "--durable", "--"]
    return Call(row, name, python, [*beside, *pytest], report)


def alone(this: Call, seconds: float | None = CALL_SECONDS) -> Result:
    """Run a call that has the machine for itself, for so long at most, and show what it prints as it comes."""
    print(f"== {this.row} {this.name}", flush=True)
    started = time.monotonic()
    return judge(this, run(this.command, environment(this.python), seconds), time.monotonic() - started)


def beside_others(
    calls: Sequence[Call], lanes: int = LANES, seconds: float | None = CALL_SECONDS
) -> list[Result]:
    """Run calls side by side, for so long at most each, and show what each has printed when it ends."""
    if len(calls) < 2 or lanes < 2:
        return [alone(this, seconds) for this in calls]
    commands = [(this.command, environment(this.python), this.report.with_suffix(".log")) for this in calls]
    results = []
    for number, code, took in run_side_by_side(commands, lanes, seconds):
        this = calls[number]
        output = this.report.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        print(f"== {this.row} {this.name}\n{output}", flush=True)
        results.append((number, judge(this, code, took)))
    return [result for _, result in sorted(results)]


def judge(this: Call, code: int, seconds: float) -> Result:
    """Read the counts from pytest's report; an end that the report does not explain is an error."""
    result = Result(this.row, this.name, seconds=seconds)
    if code == os.EX_UNAVAILABLE:
        return skipped(this.row, this.name, "its server is missing")
    if code == NO_TESTS:
        return result._replace(note="no tests")
    if not this.report.exists():
        return result._replace(errors=1, note=f"ended with {code} and no report")
    suite = next(ElementTree.parse(this.report).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed, errors, skips = counts["failures"], counts["errors"], counts["skipped"]
    passed = counts["tests"] - failed - errors - skips
    result = result._replace(passed=passed, failed=failed, skipped=skips, errors=errors)
    if code and not failed + errors:
        return result._replace(errors=1, note=f"ended with {code}")
    return result


def steps(commands: Sequence[Sequence[str]], python: Path) -> list[str]:
    """Run each command, and give those that failed."""
    failed = []
    for command in commands:
        title = " ".join(Path(word).name or word for word in command)
        print(f"== {title}", flush=True)
        if run(command, environment(python)):
            failed.append(title)
    return failed


def matrix(rows: Sequence[str], databases: Sequence[str], arguments: Sequence[str]) -> list[Result]:
    """Run every row on every database: first what can share the cores, then what needs them for itself."""
    no_server = {database: reason_against(provide, database) for database in databases}
    shared, single, results = [], [], []
    for row in rows:
        no_row = reason_against(row_venv, row)
        for database in databases:
            if reason := no_row or no_server[database]:
                results.append(skipped(row, database, reason))
                continue
            left_out = "" if database == databases[0] else " and not once"
            left_out += "" if row == rows[-1] else " and not processes"
            shared.append(call(row, database, marked(f"not alone{left_out}", arguments), database))
            single.append(call(row, database, marked(f"alone{left_out}", arguments), f"{database}-alone"))
    shared.reverse()  # the newest row's are the longest: then no core is left over at the end
    results += beside_others(shared) + [alone(this) for this in single]
    if NEWEST in rows:
        results += apart(databases, arguments)
    return results


def marked(expression: str, arguments: Sequence[str]) -> list[str]:
    """Give pytest's arguments for the tests with these markers, without those that have a call of their own."""
    # pytest collects a folder that is named, ignored or not: then the marker keeps its tests out.
    folders = [f"--ignore={tests}" for tests, _ in APART.values()]
    return [*folders, "-m", " and ".join([*(f"not {name}" for name in APART), expression]), *arguments]


def apart(databases: Sequence[str], arguments: Sequence[str]) -> list[Result]:
    """Run on the newest row what takes a call of its own, the browser's tests beside those of the Galera cluster."""
    results, calls = list[Result](), list[Call]()
    for name, (tests, database) in APART.items():
        if database not in databases:
            continue
        reason = reason_against(row_venv, NEWEST) or reason_against(provide, database)
        if reason := reason or reason_against(provide, name):
            results.append(skipped(NEWEST, name, reason))
        else:
            calls.append(call(NEWEST, database, ["-m", name, *(arguments or [tests])], name))
    return results + beside_others(calls)


def reason_against(provider: Callable[[str], object], name: str) -> str:
    """Provide something; give the reason when that cannot be, else an empty string."""
    try:
        provider(name)
    except Unavailable as problem:
        return str(problem)
    return ""


def skipped(row: str, database: str, reason: str) -> Result:
    """Say why a call is left out."""
    print(f"== {row} {database} SKIPPED: {reason}", flush=True)
    return Result(row, database, note=f"SKIPPED: {reason}")


def coverage(enforced: bool) -> list[str]:
    """Report what the newest row's calls covered; too little is a failure where it is enforced."""
    python = DEV / "venvs" / NEWEST / "bin" / "python"
    if not list((DEV / "coverage").glob("data.*")):
        return []
    base = [str(python), "-m", "coverage"]
    floor = [] if enforced else ["--fail-under=0"]
    return steps([[*base, "combine", "--quiet"], [*base, "report", *floor]], python)


def summary(results: Sequence[Result], problems: Sequence[str], seconds: float) -> int:
    """Print the table, the failed steps and, as the last line, pytest's kind of summary of all calls."""
    print(f"\n{'row':<16}{'call':<16}{'passed':>8}{'failed':>8}{'errors':>8}{'skipped':>9}{'seconds':>9}")
    for result in results:
        counts = (
            f"{result.passed:>8}{result.failed:>8}{result.errors:>8}{result.skipped:>9}{result.seconds:>9.1f}"
        )
        print(f"{result.row:<16}{result.database:<16}{counts}  {result.note}".rstrip())
    for problem in problems:
        print(f"FAILED: {problem}")
    names = ("failed", "passed", "skipped")
    counted = {name: sum(getattr(result, name) for result in results) for name in names}
    counted["errors"] = sum(result.errors for result in results) + len(problems)
    if not any(counted.values()):
        counted["errors"] = 1
    shown = ", ".join(f"{number} {name}" for name, number in counted.items() if number)
    print(f"======== {shown} in {seconds:.2f}s ========", flush=True)
    return 1 if counted["failed"] or counted["errors"] else 0
