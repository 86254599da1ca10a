"""The documents say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from django_idempotency import checks, exceptions, signals
from django_idempotency.conf import Defaults
from django_idempotency.http import problem_of
from django_idempotency.management.commands.purge_idempotency_records import Command
from django_idempotency.rest_framework import IdempotencyMixin

pytestmark = pytest.mark.once

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text()
REFERENCE = (TOP / "docs/reference.md").read_text()
PAGES = [
    TOP / "README.md",
    TOP / "CHANGELOG.md",
    TOP / "CONTRIBUTING.md",
    *sorted((TOP / "docs").rglob("*.md")),
]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_setting_is_described_with_its_default() -> None:
    described = {row[0]: row[2] for row in rows(REFERENCE, "Settings")}
    assert list(described) == list(Defaults.__annotations__)
    linked = {"REDACT", "RESPONSE_HEADERS"}
    assert {name: text for name, text in described.items() if name not in linked} == {
        name: repr(getattr(Defaults, name)) for name in described if name not in linked
    }


def test_names_on_the_mixin_exist() -> None:
    for row in rows(REFERENCE, "Settings"):
        if name := row[1].partition("(")[0]:
            assert hasattr(IdempotencyMixin, name), name


def test_every_error_is_described() -> None:
    errors = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    expected = [
        [e.__name__, str(problem_of(e()).status), e.code]
        for e in errors
        if e is not exceptions.IdempotencyError
    ]
    assert rows(REFERENCE, "Errors") == expected


def test_every_error_that_clients_meet_is_in_the_readme() -> None:
    told = {(row[1], row[2]) for row in rows(README, "What clients get") if row[2]}
    assert told == {tuple(row[1:]) for row in rows(REFERENCE, "Errors")} - {
        ("409", "outcome-unknown"),
        ("409", "result-expired"),
    }


def test_every_signal_and_check_is_described() -> None:
    assert [row[0] for row in rows(REFERENCE, "Signals")] == [
        name for name in vars(signals) if name.endswith("ed")
    ]
    ids = set(re.findall(r"django_idempotency\.[EWI]\d{3}", Path(checks.__file__).read_text()))
    assert {row[0] for row in rows(REFERENCE, "Checks")} == ids


def test_every_option_of_the_purge_is_described() -> None:
    parser = Command().create_parser("manage.py", "purge_idempotency_records")
    own = [action.option_strings[0] for action in parser._actions if action.dest in
           {"dry_run", "batch_size", "max_rows", "max_seconds", "database", "format"}]  # fmt: skip
    assert [row[0].split()[0] for row in rows(REFERENCE, "`purge_idempotency_records`")] == own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_in_the_readme_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_commands_of_dev_py_in_the_readme_exist() -> None:
    wanted = set(re.findall(r"python3 dev\.py (\w+)", README + (TOP / "CONTRIBUTING.md").read_text()))
    shown = subprocess.run(
        [sys.executable, "dev.py", "--help"], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert wanted == {"demo", "serve", "test"}
    assert wanted <= set(re.findall(r"\w+", shown.stdout))


@pytest.mark.django_db
def test_cron_line_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = re.findall(r"manage\.py (purge_idempotency_records.*)", README)[:1]
    call_command(*line.split())
    assert "Deleted 0 expired records" in capsys.readouterr().out
