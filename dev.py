#!/usr/bin/env python3
"""One entry for everything a developer does here: `python3 dev.py demo | serve | test | bench | prove | lint`.

It needs nothing but Python: what else is needed is installed under `.dev/` (the servers, as root, by apt-get), and the
servers that it starts are private ones. The parts are `tests/machine.py`, `tests/matrix.py` and `tests/servers.py`.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from tests.machine import DEV, TOP, Unavailable, environment, provide, run, venv
from tests.matrix import DATABASES, NEWEST, ROWS, any_venv, coverage, matrix, row_venv, steps, summary
from tests.prove import NAMES, prove

LINT = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports", "--cache-dir", str(DEV / "import_linter_cache")),
)
SERVE = (
    'at="http://127.0.0.1:$1" && "$0" manage.py migrate -v 0 && "$0" manage.py seed_shop --admin --url "$at" &&'
    ' echo "$at/ (Ctrl-C ends)" &&'
    ' exec "$0" -m gunicorn example_project.wsgi --workers 4 --bind "127.0.0.1:$1" --log-level warning'
)


def demo() -> int:
    """Install the little that the demo needs and run it on SQLite."""
    python = venv("demo", ">=3.10", "-e", ".[example]")
    return run([str(python), "-m", "example_project.demo"], environment(python), 300)


def serve(database: str, port: int) -> int:
    """Serve the shop with gunicorn on a private, empty database until Ctrl-C."""
    provide(database)
    python = any_venv()
    command = [str(python), "-m", "tests.servers", database, "--", "sh", "-c", SERVE, str(python), str(port)]
    try:
        return run(command, environment(python), seconds=None)
    except KeyboardInterrupt:
        return 0


def bench(database: str, arguments: Sequence[str]) -> int:
    """Compare the same view unprotected, protected and replayed, on a database whose commits reach the disk."""
    provide(database)
    python = row_venv(NEWEST)
    beside = [str(python), "-m", "tests.servers", database, "--durable", "--"]
    return run([*beside, str(python), "-m", "benchmarks", *arguments], environment(python), seconds=None)


def lint() -> list[str]:
    """Run ruff, mypy and the import contracts on the newest row; give the failures."""
    python = row_venv(NEWEST, "test,lint")
    return steps([[str(python.parent / name), *rest] for name, *rest in LINT], python)


def strict_steps() -> list[str]:
    """Run everything that a change has to pass beside its tests; give the failures."""
    try:
        failed = lint()
        python = row_venv(NEWEST)
    except Unavailable as problem:
        return [f"lint: {problem}"]
    migrations = [str(python), "manage.py", "makemigrations", "--check", "--dry-run"]
    return failed + steps([migrations, [sys.executable, str(TOP / "dev.py"), "demo"]], python)


def test(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run the matrix and print one summary of it all; 0 when nothing failed."""
    started = time.monotonic()
    shutil.rmtree(DEV / "coverage", ignore_errors=True)
    (DEV / "coverage").mkdir(parents=True)
    problems = strict_steps() if options.strict else []
    rows = [options.row] if options.row else list(ROWS)
    databases = [options.database] if options.database else list(DATABASES)
    results = matrix(rows, databases, arguments)
    whole = not (arguments or options.row or options.database)
    problems += coverage(enforced=options.strict and whole)
    if options.strict:
        problems += [
            f"{result.row} {result.database}: {result.note}"
            for result in results
            if result.note and not result.errors
        ]
        problems += [f"{result.row} {result.database}: skips" for result in results if result.skipped]
    return summary(results, problems, time.monotonic() - started)


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what `test` does not know is for pytest."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="see it work, on SQLite")
    server = commands.add_parser("serve", help="serve the example shop until Ctrl-C")
    server.add_argument("--database", choices=DATABASES, default="sqlite")
    server.add_argument("--port", type=int, default=8000)
    tests = commands.add_parser(
        "test", help="run the tests; further arguments go to pytest", allow_abbrev=False
    )
    tests.add_argument(
        "--strict", action="store_true", help="lint first, and take whatever is skipped for a failure"
    )
    tests.add_argument("--row", choices=list(ROWS), help="only this Python and Django")
    tests.add_argument("--database", choices=DATABASES, help="only this database")
    benchmark = commands.add_parser(
        "bench", help="measure; further arguments go to `python -m benchmarks`", allow_abbrev=False
    )
    benchmark.add_argument("--database", choices=DATABASES, default="postgres")
    proof = commands.add_parser("prove", help="run every proof and write its figures into docs/proof.md")
    proof.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        type=part,
        help=f"only these of {', '.join(NAMES)}; the figures of the others are kept",
    )
    proof.add_argument("--minutes", type=float, help="about how long; without it, the full dose: hours")
    commands.add_parser("lint", help="ruff, mypy and the import contracts")
    options, rest = parser.parse_known_args()
    if rest and options.command not in ("test", "bench"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options, rest


def part(name: str) -> str:
    """Take the name of a proof; nargs="*" and choices do not go together in every Python."""
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")
    return name


def terminated(number: int, frame: object) -> NoReturn:
    """Turn SIGTERM into an exception, so that the running command is ended too."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run a subcommand."""
    options, rest = parse()
    signal.signal(signal.SIGTERM, terminated)
    try:
        if options.command == "test":
            return test(options, rest)
        if options.command == "bench":
            return bench(options.database, rest)
        if options.command == "serve":
            return serve(options.database, options.port)
        if options.command == "prove":
            return min(prove(options.minutes, options.parts), 1)
        return demo() if options.command == "demo" else len(lint())
    except Unavailable as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
