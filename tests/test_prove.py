"""`dev.py prove`: the doses, and the page that says what ran and what did not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import prove
from tests.matrix import Result
from tests.proofs import dose, milliseconds, note

pytestmark = pytest.mark.once

KILL = {"kills": 3, "points": 20, "hit": 3, "duplicates": 0, "lost": 0, "median_ms": 2.0, "longest_ms": 5.0}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prove nothing, and write what was noted into a page of the test's own."""
    page = tmp_path / "proof.md"
    page.write_text(f"Head\n{prove.BEGIN}old\n{prove.END}\nTail\n", encoding="utf-8")
    monkeypatch.setattr(prove, "PAGE", page)
    monkeypatch.setattr(prove, "FINDINGS", tmp_path / "findings")
    monkeypatch.setattr(prove, "reason_against", lambda *args: "")
    for variable in ("PROOF_DIR", *(part.variable for part in prove.PARTS if part.variable)):
        monkeypatch.setenv(variable, "")
    return page


def proving(monkeypatch: pytest.MonkeyPatch, *names: str, **result: Any) -> int:
    """Run every proof, or those of these names; the kills note what their tests do."""

    def call(row: str, database: str, tests: Any, name: str, **options: Any) -> Result:
        for door in ("mixin", "command") if name.startswith("kills") else ():
            note("kills", door=door, **KILL)
        return Result(row, database, **result)

    monkeypatch.setattr(prove, "call", call)
    monkeypatch.setattr(prove, "beside_others", lambda results, lanes, seconds: results)
    return prove.prove(12, names)


def test_page_says_what_ran_and_keeps_its_own_words(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proving(monkeypatch, passed=4) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"Head\n{prove.BEGIN}")
    assert text.endswith(f"{prove.END}\nTail\n")
    assert "old" not in text
    assert "| explorer | sqlite | whole | whole | passed | 4 |" in text
    assert "| races | mariadb | `RACE_ROUNDS=" in text
    assert "| 6 | 18 | 120 |" in text, "the doors are added up"
    assert text.count("None: see what ran.") == len(prove.PARTS) - 1


@pytest.mark.parametrize(
    ("result", "words"),
    [({"failed": 1, "passed": 3}, "1 FAILED"), ({"note": "SKIPPED: no server"}, "SKIPPED")],
)
def test_run_that_did_not_pass_is_said_and_counted(
    result: dict[str, Any], words: str, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proving(monkeypatch, **result) == sum(len(part.databases) for part in prove.PARTS)
    assert words in page.read_text(encoding="utf-8")


def test_proof_that_is_run_alone_keeps_what_the_others_found(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proving(monkeypatch, passed=4)
    before = prove.table(row for row in prove.found(prove.RAN) if row["proof"] != "cuts")
    assert proving(monkeypatch, "cuts", failed=1) == 2
    rows = prove.found(prove.RAN)
    assert prove.table(row for row in rows if row["proof"] != "cuts") == before
    assert [row["result"] for row in rows if row["proof"] == "cuts"] == ["1 FAILED", "1 FAILED"]
    assert page.read_text(encoding="utf-8").count("1 FAILED") == 2


def test_figures_name_the_code_that_they_were_found_with() -> None:
    assert re.fullmatch("[0-9a-f]{10}|not committed", prove.code())


def test_dose_grows_with_the_time_up_to_the_full_one() -> None:
    for part in prove.PARTS:
        doses = [part.dose(minutes, prove.PARTS) for minutes in (0.1, 10, 1_000_000)]
        assert doses == sorted(doses)
        assert doses[-1] == part.dose(None, prove.PARTS) == part.full
        assert doses[0] >= 1 or not part.variable


def test_dose_of_each_change_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_DOSE", raising=False)
    assert dose("A_DOSE", 7) == 7
    monkeypatch.setenv("A_DOSE", "9")
    assert dose("A_DOSE", 7) == 9


def test_finding_is_noted_only_where_somebody_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROOF_DIR", raising=False)
    note("cuts", cuts=1)
    monkeypatch.setenv("PROOF_DIR", str(tmp_path))
    note("cuts", cuts=2, **milliseconds([0.001, 0.002, 0.009]))
    (line,) = (tmp_path / "cuts.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["cuts"], found["median_ms"], found["longest_ms"]) == (2, 2.0, 9.0)
