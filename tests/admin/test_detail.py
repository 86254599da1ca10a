"""The page of one record: request, answer, timeline, what a retry would get, and what strange content becomes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_idempotency.admin import detail
from django_idempotency.admin.detail import what_a_retry_gets
from django_idempotency.models import IdempotencyRecord
from tests.admin.pages import HTML, LIST, act, choose, field, page, text_of, url_of
from tests.factories import IdempotencyRecordFactory, UserFactory

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n and the rest"


def test_page_shows_request_answer_and_timeline(admin_client: Client) -> None:
    headers = [["Content-Type", "application/json"], ["Location", "/api/orders/1/"]]
    record = IdempotencyRecordFactory(
        key="x" * 255, completed=True, response_headers=headers, request_payload='{"note":"für"}'.encode()
    )
    html = page(admin_client, url_of(record))
    assert f">{'x' * 255}</code>" in field(html, "whole_key")
    assert field(html, "shown_headers").endswith(
        ">Content-Type: application/json\nLocation: /api/orders/1/</pre>"
    )
    assert "{\n  &quot;note&quot;: &quot;für&quot;\n}</pre>" in field(html, "shown_payload")
    assert "{\n  &quot;id&quot;: 1\n}</pre>" in field(html, "shown_body")
    assert [text_of(field(html, name)) for name in ("operation", "status", "fingerprint", "shown_id", "attempts")] == [
        "POST /api/orders/", "201", record.fingerprint, str(record.id), "1",
    ]  # fmt: skip
    timeline = text_of(field(html, "timeline"))
    assert [word for word in timeline.split() if word in ("created", "completed", "expires")] == [
        "created", "completed", "expires",
    ]  # fmt: skip
    assert "after 20 ms" in timeline
    assert timeline.endswith("in 23 hours")


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        (0, "0"),
        (2, "2: an earlier run was rolled back, was interrupted, or has expired."),
        (4, "4: 3 earlier runs were rolled back, were interrupted, or have expired."),
    ],
)
def test_attempts_are_explained(admin_client: Client, attempt: int, told: str) -> None:
    record = IdempotencyRecordFactory(attempt=attempt)
    assert text_of(field(page(admin_client, url_of(record)), "attempts")) == told


BODIES = [
    (b"", "Empty."),
    (b"\x00\xff\x00", "Not text, so not shown here. Download 3 bytes"),
    (b"\xff", "Not text, so not shown here. Download 1 byte"),
    (b"plain", "plain Download 5 bytes"),
    (b"x" * 4097, f"{'x' * 4096} Its beginning is shown. Download 4,097 bytes"),
    (b'"\\ud800"', '"\\ud800" Download 8 bytes'),
    (b"[" * 500_000, f"{'[' * 4096} Its beginning is shown. Download 500,000 bytes"),
    (b"<b>\x07", "<b>\\x07 Download 4 bytes"),
    (PNG, f"Download {len(PNG)} bytes"),
]


@pytest.mark.parametrize(("body", "shown"), BODIES)
def test_body_is_shown_as_text_or_told_in_words(admin_client: Client, body: bytes, shown: str) -> None:
    record = IdempotencyRecordFactory(
        completed=True, request_payload=None, response_body=body, response_headers=[]
    )
    html = page(admin_client, url_of(record))
    assert text_of(field(html, "shown_body")) == shown
    assert field(html, "shown_payload").startswith("Not kept: ")
    assert field(html, "shown_headers") == "None."


def test_body_that_was_not_kept_or_is_not_there_yet_is_told_in_words(admin_client: Client) -> None:
    omitted = IdempotencyRecordFactory(completed=True, response_body=None)
    assert field(page(admin_client, url_of(omitted)), "shown_body").startswith("Not kept: it was streamed")
    running = IdempotencyRecordFactory(method="", path="", request_payload=None)
    assert field(page(admin_client, url_of(running)), "shown_body") == "There is no answer yet."


def test_compressed_body_is_told_in_words(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(
        completed=True, response_headers=[["Content-Encoding", "gzip"]], response_body=b"\x1f\x8b"
    )
    shown = text_of(field(page(admin_client, url_of(record)), "shown_body"))
    assert shown == "Compressed (gzip), so not shown here. Download 2 bytes"


# Stored bytes


def stored(client: Client, record: IdempotencyRecord, part: str = "body", **query: str) -> Any:
    return client.get(url_of(record, "stored", part), query)


def test_bytes_are_downloaded_as_they_are_and_opened_by_no_browser(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(
        completed=True, response_body=HTML.encode(), request_payload=b"\x00\xff"
    )
    for part, content in (("body", HTML.encode()), ("payload", b"\x00\xff")):
        response = stored(admin_client, record, part, view="")
        assert response.content == content
        assert response["Content-Type"] == "application/octet-stream"
        assert response["Content-Disposition"] == f'attachment; filename="{part}-{record.id}.bin"'
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_image_is_shown_as_one_whatever_its_headers_say(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(completed=True, response_body=PNG)
    assert f'<img class="idem-image" src="{url_of(record, "stored", "body")}?view"' in page(
        admin_client, url_of(record)
    )
    response = stored(admin_client, record, view="")
    assert (response["Content-Type"], "Content-Disposition" in response) == ("image/png", False)
    assert "Content-Disposition" in stored(admin_client, record)


def test_what_is_not_stored_leads_back_with_a_message(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(completed=True, response_body=None)
    for part in ("body", "junk"):
        response = admin_client.get(url_of(record, "stored", part), follow=True)
        assert response.request["PATH_INFO"] == url_of(record)
        assert [str(message) for message in response.context["messages"]] == ["There is nothing stored here."]
    for pk in ("no-id", "00000000-0000-5000-8000-000000000000"):
        response = admin_client.get(
            reverse("admin:django_idempotency_idempotencyrecord_stored", args=[pk, "body"]), follow=True
        )
        assert response.request["PATH_INFO"] == LIST


def test_bodies_are_for_those_who_may_view_them(staff: Callable[..., Client]) -> None:
    record = IdempotencyRecordFactory(completed=True, request_payload=b"s3cr3t", response_body=b"s3cr3t")
    client = staff("view")
    html = page(client, url_of(record))
    assert "s3cr3t" not in html
    assert field(html, "shown_body").startswith("Stored, but you lack the permission")
    assert stored(client, record).status_code == 403
    reader = staff("view", "view_bodies")
    assert page(reader, url_of(record)).count(">s3cr3t</pre>") == 2
    assert stored(reader, record).content == b"s3cr3t"
    assert stored(staff("view_bodies"), record).status_code == 403


# Who sent it


def test_scope_leads_to_its_user(admin_client: Client) -> None:
    user = UserFactory(username="<b>alice")
    record = IdempotencyRecordFactory(scope=f"user:{user.pk} api/orders/")
    shown = field(page(admin_client, url_of(record)), "whole_scope")
    assert f'<a href="{reverse("admin:auth_user_change", args=[user.pk])}">&lt;b&gt;alice</a>' in shown


@pytest.mark.parametrize(
    "scope",
    [
        "anonymous api/",
        "user:999999 api/",
        "user:no-number api/",
        f"user:{10**30} api/",
        "customer:1 api/",
        "user: x",
        "",
    ],
)
def test_scope_without_a_user_leads_nowhere(admin_client: Client, scope: str) -> None:
    record = IdempotencyRecordFactory(scope=scope)
    assert "<a" not in field(page(admin_client, url_of(record)), "whole_scope")


def test_user_is_not_shown_to_those_who_may_not_see_users(
    staff: Callable[..., Client], admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = IdempotencyRecordFactory(scope=f"user:{UserFactory().pk} api/")
    assert "<a" in field(page(admin_client, url_of(record)), "whole_scope")
    monkeypatch.delitem(site._registry, User)
    assert "<a" not in field(page(admin_client, url_of(record)), "whole_scope")
    monkeypatch.undo()
    assert "<a" not in field(page(staff("view"), url_of(record)), "whole_scope")


# What a retry gets

RETRIES = [
    ({"completed": True}, "The stored answer, 201; another request with this key would get 422."),
    (
        {"completed": True, "response_body": None},
        "Status 201 and the headers, without the body, which was not kept.",
    ),
    (
        {"completed": True, "expired": True},
        "It would run again: the record has expired, so the key counts as unused.",
    ),
    ({"state": "unknown"}, "409: the outcome is unknown, and an operator has to settle it."),
    ({"state": "unknown", "expired": True}, "It would run again."),
]


@pytest.mark.parametrize(("fields", "sentence"), RETRIES)
def test_retry_is_foretold(admin_client: Client, fields: dict[str, Any], sentence: str) -> None:
    record = IdempotencyRecordFactory(**fields)
    assert f"What would a retry get now? {sentence}" in text_of(page(admin_client, url_of(record)))


@pytest.mark.parametrize(
    ("interrupted", "sentence"),
    [
        (True, "It would run: the first request was interrupted, and nobody holds the lock."),
        (False, "409: the first request is running, and holds the lock."),
        (None, "It would run, unless the first request is still running: this database does not tell."),
    ],
)
def test_retry_of_a_record_in_progress_depends_on_its_owner(interrupted: bool | None, sentence: str) -> None:
    record: Any = IdempotencyRecordFactory()
    record.interrupted = interrupted
    assert what_a_retry_gets(record, timezone.now()) == sentence
    assert what_a_retry_gets(record, timezone.now() + timedelta(days=2)) == sentence


# Strange content

STRANGE = f"{HTML}\u202e\x1b\"'&"


def test_html_and_control_characters_in_a_record_are_text_on_every_page(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(
        **dict.fromkeys(("key", "scope"), STRANGE),
        **dict.fromkeys(
            ("path", "fingerprint"), HTML
        ),  # percent-encoded, and a digest: no control characters
        method=HTML[:32],
        completed=True,
        request_payload=STRANGE.encode(),
        response_body=STRANGE.encode(),
        response_headers=[["Location", STRANGE], [STRANGE, "x"]],
    )
    act(admin_client, "expire_now", record)
    pages = [
        page(admin_client, url)
        for url in (LIST, url_of(record), url_of(record, "history"), reverse("admin:index"))
    ]
    pages.append(choose(admin_client, "delete_records", record).content.decode())
    for html in pages:
        assert not re.search("<script>alert|[\u202e\x1b]", html)
    assert pages[1].count("&lt;script&gt;alert(") >= 8
    assert pages[1].count(r"\u202e\x1b") >= 8
    assert "<script>alert" not in page(admin_client, q=STRANGE)


def test_name_of_the_address_follows_the_model() -> None:
    assert detail.stored_url_name(IdempotencyRecord._meta) == "django_idempotency_idempotencyrecord_stored"


def test_timeline_tells_of_the_last_replay(admin_client: Client) -> None:
    moment = timezone.now() - timedelta(minutes=5)
    record = IdempotencyRecordFactory(completed=True, replays=2, last_replayed_at=moment)
    shown = text_of(field(page(admin_client, url_of(record)), "timeline"))
    assert "last replay" in shown
    assert "2 replays so far" in shown
    never = IdempotencyRecordFactory(completed=True)
    assert "last replay" not in text_of(field(page(admin_client, url_of(never)), "timeline"))


def test_timeline_has_seconds_and_the_zone(admin_client: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    moment = datetime(2026, 1, 2, 20, 30, 7, tzinfo=UTC)
    record = IdempotencyRecordFactory(completed=True, replays=1, last_replayed_at=moment)
    assert "Jan. 3, 2026 02:00:07 IST" in text_of(field(page(admin_client, url_of(record)), "timeline"))
