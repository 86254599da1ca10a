"""The list: what it shows, how it is filtered, searched and sorted, and what it refuses."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin, site
from django.test import Client, RequestFactory
from django.utils import timezone

from django_idempotency import admin
from django_idempotency.admin import ranges
from django_idempotency.admin.texts import duration, line, number, relative, visible
from django_idempotency.models import IdempotencyRecord
from tests.admin.pages import LIST, keys, page, text_of
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let counting and looking end at three records."""
    monkeypatch.setattr(ranges, "COUNT_LIMIT", 3)
    return 3


def notes(client: Client, **query: str) -> list[str]:
    return [text_of(note) for note in re.findall('<p class="idem-hint">(.*?)</p>', page(client, **query))]


def said(client: Client, url: str) -> tuple[str, list[str]]:
    """Follow an address to where it leads, and return the query that is left and what is said there."""
    response = client.get(url, follow=True)
    assert response.status_code == 200
    return response.request["QUERY_STRING"], [str(message) for message in response.context["messages"]]


def test_rows_are_in_order_of_expiry_and_show_key_state_status_and_times(admin_client: Client) -> None:
    IdempotencyRecordFactory(key="first", completed=True)
    IdempotencyRecordFactory(key="last", expires_at=timezone.now() + timedelta(days=3))
    IdempotencyRecordFactory(key="x" * 255, expired=True, state="unknown")
    assert keys(admin_client) == ["last", "first", "x" * 255]
    text = text_of(page(admin_client).partition('id="result_list"')[2])
    assert "first user:1 api/orders/ completed 201 20 ms in 23 hours just now POST /api/orders/ –" in text
    assert re.search(r"last user:1 api/orders/ \S.* – in 2 days just now POST /api/orders/ –", text)
    assert "x user:1 api/orders/ outcome unknown – 1 day ago 2 days ago POST /api/orders/ –" in text


def test_absolute_times_are_in_the_title(admin_client: Client) -> None:
    record = IdempotencyRecordFactory()
    assert f'<time datetime="{record.expires_at.isoformat()}" title="' in page(admin_client)


@pytest.mark.parametrize(
    ("value", "found"), [("live", ["late", "soon"]), ("soon", ["soon"]), ("expired", ["old"])]
)
def test_filter_by_expiry(admin_client: Client, value: str, found: list[str]) -> None:
    now = timezone.now()
    IdempotencyRecordFactory(key="late", expires_at=now + timedelta(hours=2))
    IdempotencyRecordFactory(key="soon", expires_at=now + timedelta(minutes=59))
    IdempotencyRecordFactory(key="old", expires_at=now)
    assert keys(admin_client, expiry=value) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "completed"}, ["patched", "done"]),
        ({"state": "unknown"}, ["lost"]),
        ({"status": "2"}, ["done"]),
        ({"status": "4"}, ["patched"]),
        ({"status": "5"}, []),
        ({"method": "PATCH"}, ["patched"]),
        ({"created": "1"}, ["patched", "done"]),
        ({"created": "24"}, ["patched", "done"]),
        ({"created": "168"}, ["patched", "done", "lost"]),
        ({"method": "PATCH", "status": "2"}, []),
        ({"expiry": "live", "status": "4"}, ["patched"]),
        ({"method": "PATCH", "q": "patched"}, ["patched"]),
    ],
)
def test_filters_narrow_the_list(admin_client: Client, query: dict[str, str], found: list[str]) -> None:
    days = {
        name: timezone.now() + timedelta(days=count) for count, name in enumerate(("lost", "done", "patched"))
    }
    IdempotencyRecordFactory(
        key="patched", method="PATCH", completed=True, response_status=402, expires_at=days["patched"]
    )
    IdempotencyRecordFactory(key="done", completed=True, expires_at=days["done"])
    IdempotencyRecordFactory(key="lost", state="unknown", expired=True, expires_at=days["lost"])
    assert keys(admin_client, **query) == found


@pytest.mark.parametrize(
    "query", [{"status": "2"}, {"method": "POST"}, {"state": "completed"}, {"created": "1"}]
)
def test_filter_without_an_index_looks_at_the_last_to_expire_and_says_so(
    admin_client: Client, limit: int, query: dict[str, str]
) -> None:
    now = timezone.now()
    for hours in range(1, 6):
        IdempotencyRecordFactory(key=f"in {hours}", completed=True, expires_at=now + timedelta(hours=hours))
    assert keys(admin_client, **query) == ["in 5", "in 4", "in 3"]
    assert any("No index serves this filter" in note for note in notes(admin_client, **query))
    assert keys(admin_client, **query, q="in 1") == ["in 1"]
    assert notes(admin_client, expiry="live") == []


@pytest.mark.parametrize("state", ["unknown", "in_progress"])
def test_unfinished_records_are_found_however_many_expire_later(
    admin_client: Client, limit: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "interrupted", lambda using, ids: None)
    IdempotencyRecordFactory(key="wanted", state=state, expires_at=timezone.now() + timedelta(minutes=1))
    IdempotencyRecordFactory.create_batch(5, completed=True)
    assert keys(admin_client, state=state) == ["wanted"]


def test_count_ends_at_its_limit(admin_client: Client, limit: int, settings: Any) -> None:
    IdempotencyRecordFactory.create_batch(3)
    assert "3 results" in text_of(page(admin_client))
    IdempotencyRecordFactory.create_batch(2)
    assert "3+ results" in text_of(page(admin_client))
    settings.USE_THOUSAND_SEPARATOR = True
    assert "4 results" in text_of(page(admin_client))


def test_search_finds_the_exact_key_the_id_and_the_key_in_its_scope(admin_client: Client) -> None:
    for key in ("order-1", "order-10", "xorder-1"):
        IdempotencyRecordFactory(key=key)
    other = IdempotencyRecordFactory(key="order-1", scope="user:2 api/orders/")
    IdempotencyRecordFactory(key="two words", scope="a b c")
    assert keys(admin_client, q=" order-1 ") == ["order-1", "order-1"]
    assert keys(admin_client, q="order") == []
    assert keys(admin_client, q=str(other.id)) == ["order-1"]
    assert "user:2" in page(admin_client, q="user:2 api/orders/ order-1")
    assert keys(admin_client, q="user:2 api/orders/ order-1") == ["order-1"]
    assert keys(admin_client, q="a b c two words") == keys(admin_client, q="two words") == ["two words"]
    assert len(keys(admin_client, q=" ")) == 5


@pytest.mark.parametrize(
    "term", ["\x00", "x" * 5000, " ".join("x" * 3000), "%", "'", "\ud800".encode("utf-8", "replace").decode()]
)
def test_strange_search_finds_nothing_and_does_not_fail(admin_client: Client, term: str) -> None:
    IdempotencyRecordFactory()
    assert admin_client.get(LIST, {"q": term}).status_code == 200


def test_list_can_be_sorted_by_expiry_alone(admin_client: Client) -> None:
    IdempotencyRecordFactory(key="first")
    IdempotencyRecordFactory(key="last", expires_at=timezone.now() + timedelta(days=3))
    assert re.findall(r'class="sortable column-(\w+)', page(admin_client)) == ["expiry"]
    assert keys(admin_client, o="3") == ["first", "last"]
    assert keys(admin_client, o="-3") == ["last", "first"]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("o=2", ""),
        ("o=3.2&q=x", "q=x"),
        ("o=junk", ""),
        ("o=99", ""),
        ("path__contains=a&expiry=live", "expiry=live"),
        ("state__in=completed", ""),
        ("created_at__gt=2026-01-01", ""),
        ("user__password=x", ""),
        ("junk=1", ""),
        ("expiry=junk", ""),
        ("status=9&o=-3", "o=-3"),
    ],
)
def test_what_no_index_serves_is_refused_with_a_message(admin_client: Client, query: str, left: str) -> None:
    name = next(part.partition("=")[0] for part in query.split("&") if part not in left)
    refusal = f"The list cannot be filtered or sorted by “{name}”: no index serves that. It was left out."
    assert said(admin_client, f"{LIST}?{query}") == (left, [refusal])


def test_several_refusals_end(admin_client: Client) -> None:
    left, messages = said(admin_client, f"{LIST}?o=2&junk=1&path__contains=x")
    assert (left, len(messages)) == ("", 3)


def test_own_filter_by_a_field_is_allowed(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    own = site.get_model_admin(IdempotencyRecord)
    monkeypatch.setattr(own, "list_filter", ("state",))
    IdempotencyRecordFactory(key="wanted", completed=True)
    IdempotencyRecordFactory(state="unknown")
    assert keys(admin_client, state__exact="completed") == ["wanted"]
    assert said(admin_client, f"{LIST}?path=x")[0] == ""


def test_records_are_read_where_they_are_written(settings: Any) -> None:
    settings.IDEMPOTENCY = {"DATABASE": "records"}
    request = RequestFactory().get(LIST)
    assert site.get_model_admin(IdempotencyRecord).get_queryset(request).db == "records"


@pytest.fixture
def registered_anew() -> Iterator[None]:
    """Register the admin as the setting says; afterwards as it was."""
    site.unregister(IdempotencyRecord)
    yield
    if site.is_registered(IdempotencyRecord):
        site.unregister(IdempotencyRecord)
    site.register(IdempotencyRecord, admin.IdempotencyRecordAdmin)


@pytest.mark.usefixtures("registered_anew")
@pytest.mark.parametrize("wanted", [True, False])
def test_setting_leaves_the_admin_out(settings: Any, wanted: bool) -> None:
    settings.IDEMPOTENCY = {"ADMIN": wanted}
    importlib.reload(admin)
    assert site.is_registered(IdempotencyRecord) is wanted


def test_mixin_makes_an_admin_of_ones_own(admin_user: Any) -> None:
    class OwnAdmin(admin.IdempotencyRecordAdminMixin, ModelAdmin):  # type: ignore[type-arg]
        list_display = ("expiry", "shown_key")

        class Media:
            css = {"all": ["own.css"]}

    IdempotencyRecordFactory(key="mine", expired=True)
    request = RequestFactory().get(LIST)
    request.user = admin_user
    html = OwnAdmin(IdempotencyRecord, site).changelist_view(request).render().content.decode()
    assert ("own.css" in html, "django_idempotency/admin.css" in html) == (True, True)
    assert 'title="mine"' in html
    assert 'href="?expiry=expired&amp;o=1"' in html


def test_times_are_told_from_now() -> None:
    now = timezone.now()
    told = {
        minutes: relative(now + timedelta(minutes=minutes), now) for minutes in (-90, -1, -0.5, 0, 0.5, 90)
    }
    assert list(told.values()) == [
        "1\xa0hour ago", "1\xa0minute ago", "just now", "just now", "in 0\xa0minutes", "in 1\xa0hour",
    ]  # fmt: skip


def test_texts_show_what_hides() -> None:
    assert visible("a\x00\x1b[31m\u202eb\r\nc\td") == "a\\x00\\x1b[31m\\u202eb\nc\td"
    assert line("a\nb\tc") == r"a\nb\tc"
    assert [duration(timedelta(seconds=seconds)) for seconds in (0.0204, 0.999, 12.34)] == [
        "20 ms",
        "999 ms",
        "12.3 s",
    ]
    assert [number(count, 10_000) for count in (0, 9_999, 10_000, 10_001)] == [
        "0",
        "9,999",
        "10,000",
        "10,000+",
    ]


def test_replays_are_shown_and_filtered(admin_client: Client) -> None:
    now = timezone.now()
    IdempotencyRecordFactory(key="today", completed=True, replays=1234, last_replayed_at=now)
    IdempotencyRecordFactory(
        key="before", completed=True, replays=1, last_replayed_at=now - timedelta(days=3)
    )
    IdempotencyRecordFactory(key="never", completed=True)
    found = {value: sorted(keys(admin_client, replayed=value)) for value in ("yes", "24", "no")}
    assert found == {"yes": ["before", "today"], "24": ["today"], "no": ["never"]}
    assert "1,234" in text_of(page(admin_client, q="today"))
