"""``manage.py idempotency_stats``, and what else tells that the purge falls behind."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection, transaction
from django.test import Client
from django.urls import path
from django.utils import timezone
from health_check.views import HealthCheckView
from prometheus_client.parser import text_string_to_metric_families

from django_idempotency import stats
from django_idempotency.claims.registry import claims_for
from django_idempotency.core.operations import Operation
from django_idempotency.models import IdempotencyHour, IdempotencyRecord
from django_idempotency.stats import running_now
from tests.conftest import Parallel, printed
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
CHECK = "django_idempotency.contrib.health.IdempotencyPurge"
urlpatterns = [path("health/", HealthCheckView.as_view(checks=[CHECK]))]


def report(*arguments: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(printed("idempotency_stats", "--format", "json", *arguments))
    return value


def some() -> None:
    now = timezone.now()
    IdempotencyRecordFactory.create_batch(3, completed=True)
    IdempotencyRecordFactory()
    IdempotencyRecordFactory.create_batch(2, completed=True, expires_at=now - timedelta(seconds=100))
    IdempotencyHour.objects.create(hour=now, replays=7, conflicts=2)
    IdempotencyHour.objects.create(hour=now - 2 * DAY, replays=100, conflicts=100)


def test_figures_are_told_in_json() -> None:
    some()
    found = report("--database", "default")
    assert found.pop("size_bytes") > 0
    assert found.pop("running_operations", 0) == 0
    assert 100 <= found.pop("oldest_expired_seconds") < 160
    assert found == {
        "database": "default", "live_records": 4, "expired_records": 2, "unfinished_records": 1,
        "replays_last_day": 7, "conflicts_last_day": 2,
    }  # fmt: skip


def test_figures_are_told_in_words_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "COUNT_LIMIT", 1)
    some()
    text = printed("idempotency_stats")
    assert re.search(r"^database +default\nlive records +2\nexpired records +2\n", text)


def test_prometheus_reads_what_is_told() -> None:
    some()
    text = printed("idempotency_stats", "--format", "prometheus")
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {family.type for family in found.values()} == {"gauge"}
    (sample,) = found["django_idempotency_live_records"].samples
    assert (sample.labels, sample.value) == ({"database": "default"}, 4.0)
    assert all(family.documentation for family in found.values())


def test_empty_table_is_fine() -> None:
    assert report()["oldest_expired_seconds"] == 0


@pytest.mark.parametrize(("seconds", "red"), [("50", True), ("3600", False)])
def test_purge_that_is_behind_ends_with_an_error_after_the_figures(
    capsys: pytest.CaptureFixture[str], seconds: str, red: bool
) -> None:
    some()
    if not red:
        assert report("--max-age", seconds)["expired_records"] == 2
        return
    with pytest.raises(CommandError, match=r"The purge does not keep up: .* waited for 1\d\d s") as error:
        report("--max-age", seconds)
    assert error.value.returncode == 1


def test_a_day_is_too_old_unless_told() -> None:
    record = IdempotencyRecordFactory(expires_at=timezone.now() - DAY + timedelta(minutes=1))
    assert report()["expired_records"] == 1
    IdempotencyRecord.objects.filter(pk=record.pk).update(expires_at=timezone.now() - DAY)
    with pytest.raises(CommandError, match="does not keep up"):
        report()


@pytest.mark.parametrize("arguments", [("--max-age", "0"), ("--format", "xml"), ("--database", "elsewhere")])
def test_bad_argument_is_named(arguments: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match=arguments[1]):
        printed("idempotency_stats", *arguments)


def test_missing_table_is_an_error_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
    with pytest.raises(
        CommandError,
        match=r"The records on 'default' cannot be read: (?s:.*)not_migrated(?s:.*): run manage.py migrate",
    ):
        printed("idempotency_stats")


@pytest.mark.vendors("postgresql")
def test_operation_without_a_row_is_seen_by_its_lock(parallel: Parallel) -> None:
    with transaction.atomic():
        claims_for("default").claim(Operation("s", "k", "1:f", DAY))
        assert parallel.call(running_now, "default") == 1
    assert running_now("default") == 0


@pytest.mark.vendors("sqlite", "mysql")
def test_running_operations_are_left_out_where_no_lock_tells() -> None:
    assert running_now(connection.alias) is None
    assert "running" not in printed("idempotency_stats")


def health() -> tuple[int, str]:
    response = Client().get("/health/", {"format": "text"})
    return response.status_code, response.content.decode()


@pytest.mark.urls(__name__)
def test_health_check_goes_red_when_the_purge_is_behind() -> None:
    record = IdempotencyRecordFactory(expires_at=timezone.now() - DAY / 2)
    assert health()[0] == 200
    IdempotencyRecord.objects.filter(pk=record.pk).update(expires_at=timezone.now() - 2 * DAY)
    status, text = health()
    assert status == 500
    assert re.search(r"The purge of idempotency records is 1728\d\d s behind", text)


@pytest.mark.urls(__name__)
def test_health_check_goes_red_when_the_records_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
    status, text = health()
    assert status == 500
    assert "cannot be read" in text
    assert "not_migrated" not in text
