"""Records in the admin: what is shown, what can be done by whom, and at what cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_idempotency import admin
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory, UserFactory

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_idempotency_idempotencyrecord_changelist")
TABLE = IdempotencyRecord._meta.db_table
HTML = "<script>alert('x')</script>"

records = IdempotencyRecord.objects


def page(client: Client, url: str = LIST, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).replace("\xa0", " ").split())


def keys(client: Client, **query: str) -> list[str]:
    return re.findall(r"<samp>(.*?)</samp>", page(client, **query))


def url_of(record: IdempotencyRecord, view: str = "change") -> str:
    return reverse(f"admin:django_idempotency_idempotencyrecord_{view}", args=[record.pk])


def act(client: Client, action: str, *chosen: IdempotencyRecord, **more: str) -> list[str]:
    """Perform an action and return the messages that it leaves."""
    data = {"action": action, "_selected_action": [record.pk for record in chosen], **more}
    response = client.post(LIST, data, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def history() -> list[tuple[int, str, str]]:
    entries = LogEntry.objects.order_by("pk")
    return [(entry.action_flag, entry.object_repr, entry.get_change_message()) for entry in entries]


@pytest.fixture
def staff(client: Client) -> Callable[..., Client]:
    """Return a client logged in as staff with these permissions and no other."""

    def login(*actions: str) -> Client:
        user = UserFactory(is_staff=True)
        wanted = [f"{action}_idempotencyrecord" for action in actions]
        user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
        client.force_login(user)
        return client

    return login


# What is shown.


def test_list_shows_records_by_expiry_with_state_request_and_status(admin_client: Client) -> None:
    IdempotencyRecordFactory(key="first", completed=True)
    IdempotencyRecordFactory(key="last", expires_at=timezone.now() + timedelta(days=3))
    IdempotencyRecordFactory(key="x" * 255, expired=True)
    text = text_of(page(admin_client))
    assert keys(admin_client) == ["last", "first", "x" * 39 + "…"]
    assert re.search(r"first completed 201 in 23 hours POST /api/orders/ user:1 api/orders/", text)
    assert re.search(r"last in progress - in 2 days POST /api/orders/ user:1 api/orders/", text)
    assert re.search(r"x… in progress - 1 day ago POST", text)


@pytest.mark.parametrize(
    ("value", "found"), [("live", ["late", "soon"]), ("soon", ["soon"]), ("expired", ["old"])]
)
def test_filter_by_expiry(admin_client: Client, value: str, found: list[str]) -> None:
    now = timezone.now()
    IdempotencyRecordFactory(key="late", expires_at=now + timedelta(hours=2))
    IdempotencyRecordFactory(key="soon", expires_at=now + timedelta(minutes=59))
    IdempotencyRecordFactory(key="old", expires_at=now)
    assert keys(admin_client, expiry=value) == found


def test_filter_tells_how_many_and_counts_no_further_than_its_limit(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "COUNT_LIMIT", 3)
    IdempotencyRecordFactory.create_batch(5, completed=True)
    IdempotencyRecordFactory.create_batch(2, expired=True)
    text = text_of(page(admin_client))
    assert [word in text for word in ("live (3+)", "within 1 hour (0)", "expired (2)")] == [True] * 3
    assert "4 results" in text


def test_list_can_be_sorted_by_expiry_alone(admin_client: Client) -> None:
    IdempotencyRecordFactory(key="first")
    IdempotencyRecordFactory(key="last", expires_at=timezone.now() + timedelta(days=3))
    assert re.findall(r'class="sortable column-(\w+)', page(admin_client)) == ["expiry"]
    assert keys(admin_client, o="4") == ["first", "last"]


def test_search_finds_the_exact_key(admin_client: Client) -> None:
    for key in ("order-1", "order-10", "xorder-1"):
        IdempotencyRecordFactory(key=key)
    assert keys(admin_client, q=" order-1 ") == ["order-1"]
    assert keys(admin_client, q="order") == []
    assert len(keys(admin_client, q=" ")) == 3


def test_detail_shows_request_answer_and_timeline(admin_client: Client) -> None:
    headers = [["Content-Type", "application/json"], ["Location", "/api/orders/1/"]]
    record = IdempotencyRecordFactory(
        key="x" * 255, completed=True, response_headers=headers, request_payload='{"note":"für"}'.encode()
    )
    html = page(admin_client, url_of(record))
    assert f"<pre>{'x' * 255}</pre>" in html
    assert "<pre>Content-Type: application/json\nLocation: /api/orders/1/</pre>" in html
    assert "<pre>{\n  &quot;note&quot;: &quot;für&quot;\n}</pre>" in html
    assert "<pre>{\n  &quot;id&quot;: 1\n}</pre>" in html
    text = text_of(html)
    for part in ("POST /api/orders/", "201", record.fingerprint, str(record.id), "20 ms", "in 23 hours"):
        assert part in text


BODIES = [
    (None, "–"),
    (b"", "empty"),
    (b"\x00\xff\x00", "3 bytes, not text"),
    (b"\xff", "1 byte, not text"),
    (b"plain", "<pre>plain</pre>"),
    (b"x" * 4097, f"<pre>{'x' * 4096}… (4097 bytes)</pre>"),
    (b'"\\ud800"', "<pre>&quot;\\ud800&quot;</pre>"),
    (b"[" * 500_000, f"<pre>{'[' * 4096}… (500000 bytes)</pre>"),
    (b"<b>", "<pre>&lt;b&gt;</pre>"),
]


@pytest.mark.parametrize(("body", "shown"), BODIES)
def test_body_is_shown_as_text_or_described_in_words(
    admin_client: Client, body: bytes | None, shown: str
) -> None:
    record = IdempotencyRecordFactory(completed=True, request_payload=None, response_body=body)
    _, _, answer = page(admin_client, url_of(record)).partition("field-shown_body")
    content = re.search(r'<div class="readonly">(.*?)</div>', answer, re.DOTALL)
    assert content
    assert content[1] == shown


def test_record_without_answer_or_request_is_shown(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(method="", path="", request_payload=None)
    assert "in progress" in page(admin_client, url_of(record))


def test_html_in_a_record_is_text_on_every_page(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(
        **dict.fromkeys(("key", "scope", "path"), HTML),
        completed=True,
        request_payload=HTML.encode(),
        response_body=HTML.encode(),
        response_headers=[["Location", HTML]],
    )
    act(admin_client, "expire_now", record)
    for url in (LIST, url_of(record), url_of(record, "history"), reverse("admin:index")):
        html = page(admin_client, url)
        assert "alert(" not in html.replace("&lt;script&gt;alert(", "")
    assert page(admin_client, url_of(record)).count("&lt;script&gt;alert(") >= 6


def test_records_are_read_where_they_are_written(settings: Any) -> None:
    settings.IDEMPOTENCY = {"DATABASE": "records"}
    request = RequestFactory().get(LIST)
    assert site.get_model_admin(IdempotencyRecord).get_queryset(request).db == "records"


# Who may do what.


@pytest.mark.parametrize("view", ["add", "delete", "post"])
def test_nothing_can_be_added_changed_or_deleted_even_by_a_superuser(admin_client: Client, view: str) -> None:
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
    record, client = IdempotencyRecordFactory(), staff()
    assert [client.get(url).status_code for url in (LIST, url_of(record))] == [403, 403]
    assert client.post(LIST, {"action": "expire_now", "_selected_action": [record.pk]}).status_code == 403


@pytest.mark.parametrize(
    ("permission", "other", "expired"), [("expire", "purge_expired", False), ("purge", "expire_now", True)]
)
def test_each_action_needs_its_own_permission(
    staff: Callable[..., Client], permission: str, other: str, expired: bool
) -> None:
    record, client = IdempotencyRecordFactory(), staff("view", permission)
    old = IdempotencyRecordFactory(expired=True)
    assert f'value="{other}"' not in page(client)
    assert act(client, other, record, old) == ["No action selected."]
    assert set(records.all()) == {record, old}
    assert records.get(pk=record.pk).expires_at == record.expires_at
    assert history() == []


def test_viewer_has_no_action(staff: Callable[..., Client]) -> None:
    IdempotencyRecordFactory()
    assert 'name="action"' not in page(staff("view"))


def test_expire_now_frees_the_key_and_is_recorded(staff: Callable[..., Client]) -> None:
    chosen, other = IdempotencyRecordFactory.create_batch(2, completed=True)
    assert act(staff("view", "expire"), "expire_now", chosen) == ["1 record expired."]
    assert (records.expired().get(), records.live().get()) == (chosen, other)
    assert history() == [(CHANGE, "POST /api/orders/ (completed)", "Expired now.")]


def test_purge_keeps_what_is_live_and_is_recorded(staff: Callable[..., Client]) -> None:
    live, *_ = [IdempotencyRecordFactory(), *IdempotencyRecordFactory.create_batch(2, expired=True)]
    said = act(staff("view", "purge"), "purge_expired", *records.all())
    assert said == ["2 records purged.", "Records that have not expired were kept."]
    assert records.get() == live
    assert history() == [(DELETION, "POST /api/orders/ (in_progress)", "Purged.")] * 2


def test_action_that_fails_leaves_no_history(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    IdempotencyRecordFactory(expired=True)
    monkeypatch.setattr(LogEntry.objects, "log_actions", None)
    with pytest.raises(TypeError):
        act(admin_client, "purge_expired", records.get())
    assert records.count() == 1


def test_actions_on_everything_are_done_in_portions(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "ACTION_LIMIT", 3)
    IdempotencyRecordFactory.create_batch(4)
    all_ = {"select_across": "1"}
    rest = "At most 3 records are changed at a time: run the action again for the rest."
    first = records.first()
    assert first
    assert act(admin_client, "expire_now", first, **all_) == ["3 records expired.", rest]
    assert act(admin_client, "expire_now", first, **all_) == ["1 record expired."]
    assert act(admin_client, "purge_expired", first, **all_) == ["3 records purged.", rest]
    assert records.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.vendors("postgresql", "mysql")
@pytest.mark.parametrize(
    ("action", "expired", "said"),
    [("expire_now", False, "1 record expired."), ("purge_expired", True, "1 record purged.")],
)
def test_action_passes_over_a_record_in_use_and_does_not_wait(
    admin_client: Client, parallel: Parallel, action: str, expired: bool, said: str
) -> None:
    held, free = IdempotencyRecordFactory.create_batch(2, expired=expired)
    with transaction.atomic():
        records.select_for_update().get(pk=held.pk)
        messages = parallel.call(act, admin_client, action, held, free)
    assert messages == [said, "1 record is in use by a running request."]
    assert records.get(pk=held.pk).expires_at == held.expires_at
    assert len(history()) == 1


# At what cost.


def statements(client: Client, **query: str) -> list[str]:
    """Return the statements on the records' table that a list page needs."""
    with CaptureQueriesContext(connection) as queries:
        page(client, **query)
    return [found["sql"] for found in queries if TABLE in found["sql"]]


PAGES = [{}, {"expiry": "live"}, {"expiry": "soon"}, {"expiry": "expired"}, {"q": "key-3"}, {"_facets": "1"}]


@pytest.mark.parametrize("query", PAGES)
def test_list_counts_to_a_limit_and_leaves_payloads_where_they_are(
    admin_client: Client, query: dict[str, str]
) -> None:
    IdempotencyRecordFactory.create_batch(5, completed=True)
    for sql in statements(admin_client, **query):
        assert "DISTINCT" not in sql
        assert "COUNT" not in sql or "LIMIT 10001" in sql
        assert re.search(rf"ORDER BY (1|.{TABLE}.\..expires_at.) ", sql)
        for column in ("request_payload", "response_body", "response_headers"):
            assert column not in sql


def test_number_of_queries_does_not_grow_with_the_list(admin_client: Client) -> None:
    IdempotencyRecordFactory(completed=True)
    before = len(statements(admin_client))
    IdempotencyRecordFactory.create_batch(30, completed=True)
    assert len(statements(admin_client)) == before == 5


def fill(count: int) -> None:
    """Copy one record by SQL: half of the copies have expired, one expires each minute, each with its own key."""
    IdempotencyRecordFactory(completed=True)
    changed = {
        "id": "gen_random_uuid()",
        "key": "'key-' || n",
        "expires_at": f"now() + (n - {count // 2}) * interval '1 minute'",
    }
    columns = [field.column for field in IdempotencyRecord._meta.local_concrete_fields]
    values = ", ".join(changed.get(column, column) for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({', '.join(columns)}) "
            f"SELECT {values} FROM {TABLE}, generate_series(1, {count}) AS n"
        )
        cursor.execute(f"ANALYZE {TABLE}")


@pytest.mark.vendors("postgresql")
@pytest.mark.parametrize("query", [*PAGES, {"o": "4"}, {"o": "-4"}])
def test_list_reads_20000_records_by_index(admin_client: Client, query: dict[str, str]) -> None:
    fill(20_000)
    for sql in statements(admin_client, **query):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Seq Scan" not in plan, plan
        assert "idempotency_key" in plan or "idempotency_expires_at" in plan
