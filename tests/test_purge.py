"""``manage.py purge_idempotency_records``."""

from __future__ import annotations

import io
import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, execute_from_command_line
from django.utils import timezone

from django_idempotency.claims import retention
from django_idempotency.management.commands import purge_idempotency_records as command
from django_idempotency.models import IdempotencyRecord
from tests.conftest import printed
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)


def purge(*arguments: str) -> str:
    return printed("purge_idempotency_records", *arguments)


def report(*arguments: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(purge(*arguments, "--format", "json"))
    return value


def left() -> int:
    return IdempotencyRecord.objects.count()


def test_expired_records_go_and_live_ones_stay() -> None:
    IdempotencyRecordFactory.create_batch(3, expired=True)
    live = IdempotencyRecordFactory(expires_at=timezone.now() + timedelta(minutes=1))
    assert purge() == "Deleted 3 expired records on 'default' in 1 batch.\n"
    assert list(IdempotencyRecord.objects.all()) == [live]


def test_report_says_what_was_done_in_json() -> None:
    IdempotencyRecordFactory.create_batch(3, expired=True)
    expected = {"database": "default", "dry_run": False, "deleted": 3, "batches": 2, "finished": True}
    assert report("--batch-size", "2", "--database", "default") == expected


def test_dry_run_counts_and_deletes_nothing() -> None:
    IdempotencyRecordFactory.create_batch(2, expired=True)
    IdempotencyRecordFactory()
    assert report("--dry-run") == {"database": "default", "dry_run": True, "expired": 2}
    assert purge("--dry-run") == "2 expired records on 'default'; nothing was deleted (--dry-run).\n"
    assert left() == 3


def test_one_record_is_one_record() -> None:
    IdempotencyRecordFactory(expired=True)
    assert purge("--dry-run").startswith("1 expired record on 'default';")
    assert purge() == "Deleted 1 expired record on 'default' in 1 batch.\n"
    assert purge() == "Deleted 0 expired records on 'default' in 0 batches.\n"


def test_limit_that_ends_the_run_is_told() -> None:
    IdempotencyRecordFactory.create_batch(3, expired=True)
    assert "a limit ended this run" in purge("--max-rows", "2")
    assert left() == 1


def test_run_out_of_time_deletes_nothing_more() -> None:
    IdempotencyRecordFactory(expired=True)
    assert report("--max-seconds", "1e-9")["finished"] is False
    assert left() == 1


def test_sleep_is_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(retention.time, "sleep", slept.append)
    IdempotencyRecordFactory.create_batch(3, expired=True)
    assert report("--batch-size", "2", "--sleep", "0.5")["deleted"] == 3
    assert slept == [0.5]
    assert report("--sleep", "0")["finished"]


def test_verbosity_0_is_silent_for_cron() -> None:
    IdempotencyRecordFactory(expired=True)
    assert purge("--verbosity", "0") == ""
    assert left() == 0


BAD_ARGUMENTS = [
    ("--batch-size", "0"),
    ("--batch-size", "-1"),
    ("--batch-size", "ten"),
    ("--batch-size", "10001"),
    ("--max-rows", "0"),
    ("--max-rows", "1.5"),
    ("--max-seconds", "0"),
    ("--max-seconds", "nan"),
    ("--max-seconds", "inf"),
    ("--max-seconds", "soon"),
    ("--sleep", "-1"),
    ("--sleep", "long"),
    ("--format", "yaml"),
]


@pytest.mark.parametrize(("option", "value"), BAD_ARGUMENTS)
def test_bad_argument_is_named_with_its_value(option: str, value: str) -> None:
    IdempotencyRecordFactory(expired=True)
    with pytest.raises(CommandError, match=f"argument {option}: .*{value}"):
        purge(option, value)
    assert left() == 1


def test_bad_argument_on_the_command_line_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        execute_from_command_line(["manage.py", "purge_idempotency_records", "--batch-size=x"])
    assert exit_.value.code == 2
    assert "'x' is not a whole number above 0" in capsys.readouterr().err


def test_unknown_database_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CommandError, match=r"There is no database 'elsewhere': choose one of default\."):
        purge("--database", "elsewhere")


def test_database_setting_decides_where_no_option_does(settings: Any) -> None:
    settings.IDEMPOTENCY = {"DATABASE": "elsewhere"}
    with pytest.raises(CommandError, match="no database 'elsewhere'"):
        purge()


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_missing_table_is_an_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
    with pytest.raises(
        CommandError,
        match=r"The records on 'default' cannot be purged: (?s:.*)not_migrated(?s:.*): run manage.py migrate",
    ):
        purge(*arguments)


class Terminal(io.StringIO):
    """Somebody is looking."""

    def isatty(self) -> bool:
        return True


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    IdempotencyRecordFactory.create_batch(3, expired=True)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    purge("--batch-size", "1", *arguments)
    assert left() == 0
    return screen.getvalue()


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_on_a_terminal(monkeypatch)
    assert "Purging" in shown
    assert "3/3" in shown


def test_no_progress_beside_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_on_a_terminal(monkeypatch, "--format", "json") == ""


def test_no_progress_and_no_error_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "tqdm", None)
    assert shown_on_a_terminal(monkeypatch) == ""


def test_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    IdempotencyRecordFactory(expired=True)
    purge()
    assert capsys.readouterr().err == ""
