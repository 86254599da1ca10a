"""Encryption at rest: what is in the table, who can read it, and that it fails closed."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.checks import run_checks
from django.db import connection
from django.test import Client, override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency import encryption
from django_idempotency.encryption import opened, sealed
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.models import IdempotencyRecord
from tests.factories import IdempotencyRecordFactory
from tests.views import effects

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
SECRET = "the note that nobody reads"


def send(key: str = "k", **body: Any) -> Any:
    client = Client(headers={"Idempotency-Key": key})
    return client.post("/echo/", json.dumps({"note": SECRET, **body}), content_type="application/json")


def in_table() -> list[bytes]:
    """Return payload and body as the database has them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT request_payload, response_body FROM {IdempotencyRecord._meta.db_table}")
        return [bytes(content) for content in cursor.fetchone()]


@pytest.fixture
def keys(settings: Any) -> Any:
    """Return what sets the keys."""

    def use(*listed: str) -> None:
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": list(listed)}

    return use


def test_payload_and_answer_are_unreadable_in_the_table_and_replayed(keys: Any) -> None:
    keys(NEW)
    first = send()
    for content in in_table():
        assert SECRET.encode() not in content
        assert content.startswith(b"\0fernet:")
    retry = send()
    assert (retry.status_code, retry.content) == (201, first.content)
    assert SECRET in retry.json()["note"]
    assert retry.headers["Idempotent-Replayed"] == "true"
    assert effects() == 1


def test_without_keys_both_are_plain(keys: Any) -> None:
    keys()
    send()
    assert all(SECRET.encode() in content for content in in_table())


def test_record_from_before_the_first_key_stays_readable(keys: Any) -> None:
    keys()
    first = send()
    keys(NEW)
    assert send().content == first.content
    assert effects() == 1


def test_first_key_encrypts_and_all_decrypt(keys: Any) -> None:
    keys(OLD)
    first = send()
    keys(NEW, OLD)
    assert send().content == first.content
    send("another")
    keys(NEW)
    assert send("another").headers["Idempotent-Replayed"] == "true"
    assert send().status_code == 503


@pytest.mark.parametrize("left", [[], [OTHER], ["no key"]])
def test_answer_that_cannot_be_decrypted_is_503_and_never_runs_again(
    keys: Any, left: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    keys(NEW)
    send()
    keys(*left)
    response = send()
    assert (response.status_code, response.json()["code"]) == (503, "store-unavailable")
    assert response.headers["Retry-After"] == "1"
    assert effects() == 1
    (line,) = [record for record in caplog.records if record.name == "django_idempotency"]
    assert line.levelno == logging.ERROR
    assert "ENCRYPTION_KEYS" in line.getMessage()
    assert "no key" not in line.getMessage()
    keys(NEW)
    assert send().headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("listed", ["no key", 1, None, [1], [OTHER[:-2]], "abc"])
@pytest.mark.parametrize("keep_payload", [True, False])
def test_keys_that_cannot_be_used_are_503_before_the_view_runs(
    settings: Any, listed: Any, keep_payload: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": listed, "STORE_REQUEST_PAYLOAD": keep_payload}
    assert send().status_code == 503
    assert effects() == 0
    assert not IdempotencyRecord.objects.completed().exists()
    assert "it is no list of Fernet keys" in caplog.text


def test_missing_package_is_an_error_at_start_and_503_before_the_view_runs(
    keys: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys(NEW)
    send()
    monkeypatch.setattr(encryption, "is_installed", lambda: False)
    assert [send(key).status_code for key in ("k", "another")] == [503, 503]
    assert effects() == 1
    assert "cryptography is not installed" in caplog.text
    assert [message.id for message in run_checks()] == ["django_idempotency.E101"]
    keys()
    assert run_checks() == []
    assert send("another").status_code == 201


def test_admin_shows_what_is_encrypted_to_those_who_have_the_key(keys: Any, admin_client: Client) -> None:
    keys(NEW)
    send()
    page = f"/admin/django_idempotency/idempotencyrecord/{IdempotencyRecord.objects.get().pk}/change/"
    assert admin_client.get(page).content.decode().count(SECRET) == 2
    keys(OTHER)
    shown = admin_client.get(page).content.decode()
    assert SECRET not in shown
    assert shown.count("no key of IDEMPOTENCY[&#x27;ENCRYPTION_KEYS&#x27;] decrypts it") == 2


MARKED = [b"\0fernet:gAAAA", b"\0plain:", b"\0plain:\0fernet:", b"\0plain:\0plain:"]


@given(st.one_of(st.none(), st.binary(), st.sampled_from(MARKED)), st.booleans())
def test_what_is_opened_is_what_was_sealed(content: bytes | None, encrypted: bool) -> None:
    with override_settings(IDEMPOTENCY={"ENCRYPTION_KEYS": [NEW] if encrypted else []}):
        assert opened(sealed(content)) == content


def test_body_that_imitates_a_mark_is_replayed_as_it_was(keys: Any) -> None:
    record = IdempotencyRecordFactory(completed=True, response_body=sealed(MARKED[0]))
    record.refresh_from_db()
    assert record.as_snapshot().body == MARKED[0]
    IdempotencyRecord.objects.update(response_body=MARKED[0])
    record.refresh_from_db()
    with pytest.raises(StoreUnavailable):
        record.as_snapshot()
