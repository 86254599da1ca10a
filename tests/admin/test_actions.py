"""The actions: who may do what, what is asked first, what is done then, and what the log keeps."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from django_idempotency.admin import actions
from django_idempotency.admin.export import COLUMNS
from django_idempotency.models import IdempotencyRecord
from tests.admin.pages import LIST, act, choose, history, page, text_of, url_of
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db

records = IdempotencyRecord.objects

PERMISSIONS = {
    "extend": "extend_expiry", "expire": "expire_now", "purge": "purge_expired", "delete": "delete_records",
    "export": "export_metadata",
}  # fmt: skip


def question(client: Client, action: str, *chosen: IdempotencyRecord, **more: str) -> str:
    """Return what is asked, and whatever stands around it."""
    return text_of(choose(client, action, *chosen, **more).content.decode().partition('id="content"')[2])


@pytest.mark.parametrize("view", ["add", "delete", "post"])
def test_nothing_can_be_added_changed_or_deleted_by_django_s_own_pages(
    admin_client: Client, view: str
) -> None:
    record = IdempotencyRecordFactory()
    responses: dict[str, Callable[[], HttpResponse]] = {
        "add": lambda: admin_client.get(reverse("admin:django_idempotency_idempotencyrecord_add")),
        "delete": lambda: admin_client.post(url_of(record, "delete"), {"post": "yes"}),
        "post": lambda: admin_client.post(url_of(record), {"state": "completed"}),
    }
    assert responses[view]().status_code == 403
    assert records.get().state == "in_progress"


def test_pages_offer_no_change(admin_client: Client) -> None:
    record = IdempotencyRecordFactory()
    for html in (page(admin_client), page(admin_client, url_of(record))):
        assert not re.search(
            r'addlink|deletelink|name="_save|delete_selected', html.partition('id="content"')[2]
        )


def test_staff_without_permission_sees_nothing(staff: Callable[..., Client]) -> None:
    record, client = IdempotencyRecordFactory(), staff("expire", "delete")
    assert [client.get(url).status_code for url in (LIST, url_of(record))] == [403, 403]
    data = {"action": "expire_now", "_selected_action": [record.pk], "post": "yes"}
    assert client.post(LIST, data).status_code == 403


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_each_action_needs_its_own_permission(staff: Callable[..., Client], permission: str) -> None:
    record, client = IdempotencyRecordFactory(), staff("view", permission)
    old = IdempotencyRecordFactory(expired=True)
    offered = re.findall(r'<option value="(\w+)">', page(client))
    assert offered == [PERMISSIONS[permission]]
    for action in set(PERMISSIONS.values()) - set(offered):
        assert act(client, action, record, old, option="1") == ["No action selected."]
    assert set(records.values_list("expires_at")) == {(record.expires_at,), (old.expires_at,)}
    assert history() == []


def test_viewer_has_no_action(staff: Callable[..., Client]) -> None:
    IdempotencyRecordFactory()
    assert 'name="action"' not in page(staff("view"))


QUESTIONS = {
    "expire_now": "Expire 2 live records now? Its key counts as unused from then on",
    "extend_expiry": "Extend the expiry of 2 live records?",
    "purge_expired": "Purge 1 expired record? Only what has expired is deleted",
    "delete_records": "Delete 3 records, live or not? The operation may run again",
    "export_metadata": "Export the metadata of 3 records?",
}


@pytest.mark.parametrize(("action", "asked"), QUESTIONS.items())
def test_action_asks_first_with_a_count_and_changes_nothing(
    admin_client: Client, action: str, asked: str
) -> None:
    chosen = [*IdempotencyRecordFactory.create_batch(2), IdempotencyRecordFactory(expired=True)]
    before = list(records.order_by("pk").values())
    assert asked in question(admin_client, action, *chosen)
    assert list(records.order_by("pk").values()) == before
    assert history() == []


def test_question_names_ten_and_keeps_what_was_chosen(admin_client: Client) -> None:
    chosen = IdempotencyRecordFactory.create_batch(12)
    response = choose(admin_client, "expire_now", *chosen, select_across="1")
    html = response.content.decode()
    assert html.count("<code>key-") == 10
    assert "and 2 more" in html
    assert set(re.findall(r'name="_selected_action" value="(.*?)"', html)) == {
        str(each.pk) for each in chosen
    }
    for hidden in (
        'name="action" value="expire_now"',
        'name="select_across" value="1"',
        'name="post" value="yes"',
    ):
        assert hidden in html


@pytest.mark.parametrize("action", QUESTIONS)
def test_question_leads_back_to_the_list(admin_client: Client, action: str) -> None:
    chosen = [IdempotencyRecordFactory(), IdempotencyRecordFactory(expired=True)]
    html = choose(admin_client, action, *chosen).content.decode()
    crumbs = html.partition('class="breadcrumbs"')[2].partition("<h1>")[0].partition("nav-sidebar")[0]
    assert f'<a href="{LIST}">Idempotency records</a>' in crumbs
    leave = "Back to the list" if action == "export_metadata" else "No, take me back"
    assert f'href="{LIST}">{leave}</a>' in html


@pytest.mark.parametrize(
    ("action", "expired"), [("expire_now", True), ("extend_expiry", True), ("purge_expired", False)]
)
def test_action_that_is_for_none_of_the_chosen_says_so(
    admin_client: Client, action: str, expired: bool
) -> None:
    record = IdempotencyRecordFactory(expired=expired)
    (said,) = choose(admin_client, action, record).context["messages"]
    assert "None of the chosen records is one for" in str(said)


def test_expire_now_frees_the_key_and_is_recorded(staff: Callable[..., Client]) -> None:
    chosen, other = IdempotencyRecordFactory.create_batch(2, completed=True)
    assert act(staff("view", "expire"), "expire_now", chosen) == ["1 record expired."]
    assert (records.expired().get(), records.live().get()) == (chosen, other)
    assert history() == [(CHANGE, "POST /api/orders/ (completed)", "Expired now.")]


def test_extend_moves_the_expiry_and_is_recorded(staff: Callable[..., Client]) -> None:
    chosen, old = IdempotencyRecordFactory(), IdempotencyRecordFactory(expired=True)
    client = staff("view", "extend")
    assert act(client, "extend_expiry", chosen, old, option="168") == ["The expiry of 1 record was extended."]
    assert records.get(pk=chosen.pk).expires_at == chosen.expires_at + timedelta(days=7)
    assert history() == [(CHANGE, "POST /api/orders/ (in_progress)", "Extended by 168 h.")]


@pytest.mark.parametrize("option", ["", "junk", "99999999999"])
def test_option_that_was_not_offered_is_asked_for_again(admin_client: Client, option: str) -> None:
    record = IdempotencyRecordFactory()
    assert "Extend the expiry of 1" in question(
        admin_client, "extend_expiry", record, post="yes", option=option
    )
    assert records.get().expires_at == record.expires_at


def test_purge_keeps_what_is_live_and_is_recorded(staff: Callable[..., Client]) -> None:
    live, *_ = [IdempotencyRecordFactory(), *IdempotencyRecordFactory.create_batch(2, expired=True)]
    assert act(staff("view", "purge"), "purge_expired", *records.all()) == ["2 records purged."]
    assert records.get() == live
    assert history() == [(DELETION, "POST /api/orders/ (in_progress)", "Purged.")] * 2


def test_delete_takes_live_records_too_and_is_recorded(staff: Callable[..., Client]) -> None:
    chosen, other = IdempotencyRecordFactory.create_batch(2, completed=True)
    assert act(staff("view", "delete"), "delete_records", chosen) == ["1 record deleted."]
    assert records.get() == other
    assert history() == [(DELETION, "POST /api/orders/ (completed)", "Deleted.")]


def export(client: Client, form: str, *chosen: IdempotencyRecord) -> HttpResponse:
    data = {
        "action": "export_metadata",
        "_selected_action": [each.pk for each in chosen],
        "post": "yes",
        "option": form,
    }
    response: Any = client.post(LIST, data)
    assert response["Content-Disposition"] == f'attachment; filename="idempotency-records.{form}"'
    return response


def test_export_as_json_holds_metadata_and_is_recorded(staff: Callable[..., Client]) -> None:
    record, _ = IdempotencyRecordFactory.create_batch(2, completed=True, request_payload=b"s3cr3t")
    response = export(staff("view", "export"), "json", record)
    (row,) = json.loads(response.content)
    assert tuple(row) == COLUMNS
    assert (row["id"], row["response_status"], row["attempt"]) == (str(record.pk), 201, 1)
    assert row["expires_at"] == record.expires_at.isoformat()
    assert history() == [(CHANGE, "POST /api/orders/ (completed)", "Metadata exported as json.")]
    assert {"request_payload", "response_body", "response_headers"}.isdisjoint(COLUMNS)


def test_export_as_csv_gives_a_spreadsheet_no_formula(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(key='=HYPERLINK("http://evil")', scope="@x, y")
    (row,) = csv.DictReader(io.StringIO(export(admin_client, "csv", record).content.decode()))
    assert (row["key"], row["scope"]) == ('\'=HYPERLINK("http://evil")', "'@x, y")
    assert (row["id"], row["completed_at"]) == (str(record.pk), "")


def test_action_that_fails_leaves_no_history(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    IdempotencyRecordFactory(expired=True)
    monkeypatch.setattr(LogEntry.objects, "log_actions", None)
    with pytest.raises(TypeError):
        act(admin_client, "purge_expired", records.get())
    assert records.count() == 1


def test_actions_on_everything_are_done_in_portions(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "ACTION_LIMIT", 3)
    first, *_ = IdempotencyRecordFactory.create_batch(4)
    all_ = {"select_across": "1"}
    rest = "At most 3 records are changed at a time: run the action again for the rest."
    assert "At most 3 records are changed at a time." in question(admin_client, "expire_now", first, **all_)
    assert act(admin_client, "expire_now", first, **all_) == ["3 records expired.", rest]
    assert act(admin_client, "expire_now", first, **all_) == ["1 record expired."]
    assert act(admin_client, "purge_expired", first, **all_) == ["3 records purged.", rest]
    assert records.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.vendors("postgresql", "mysql")
@pytest.mark.parametrize(
    ("action", "expired", "said"),
    [
        ("expire_now", False, "1 record expired."),
        ("extend_expiry", False, "The expiry of 1 record was extended."),
        ("purge_expired", True, "1 record purged."),
        ("delete_records", False, "1 record deleted."),
    ],
)
def test_action_passes_over_a_record_in_use_and_does_not_wait(
    admin_client: Client, parallel: Parallel, action: str, expired: bool, said: str
) -> None:
    held, free = IdempotencyRecordFactory.create_batch(2, expired=expired)

    def do() -> list[str]:
        return act(admin_client, action, held, free, option="1")

    with transaction.atomic():
        records.select_for_update().get(pk=held.pk)
        messages = parallel.call(do)
    left = "1 record was left alone: a running request holds it, or it has changed meanwhile."
    assert messages == [said, left]
    assert records.get(pk=held.pk).expires_at == held.expires_at
    assert len(history()) == 1
