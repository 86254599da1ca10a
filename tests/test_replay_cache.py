"""The replay cache on a real Valkey: what goes in, what comes out, and what never does."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test import Client
from django.utils import timezone

from django_idempotency import replay_cache
from django_idempotency.claims import retention
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.execution import aexecute_once, execute_once
from django_idempotency.models import IdempotencyRecord
from tests import servers
from tests.caching import BACKENDS, Inside, is_replay, send, use
from tests.conftest import Parallel
from tests.factories import UserFactory
from tests.views import OwnedView, effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

records = IdempotencyRecord.objects


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with servers.redis() as path:
        yield path


@pytest.fixture(params=["django-redis"])
def inside(request: pytest.FixtureRequest, place: str, settings: Any) -> Iterator[Inside]:
    """Turn the cache on; parametrized by backends."""
    use(settings, place, request.param)
    found = Inside(place)
    yield found
    found.client.flushall()
    found.client.close()


every_backend = pytest.mark.parametrize("inside", BACKENDS, indirect=True)


def ids() -> list[Any]:
    return list(records.values_list("id", flat=True))


# What goes in, and comes out


@every_backend
def test_retry_gets_the_first_answer_without_a_statement(inside: Inside) -> None:
    first, _ = send(path="/probe/download/")
    retry, statements = send(path="/probe/download/")
    assert (is_replay(first), is_replay(retry), statements) == (False, True, 0)
    assert (retry.status_code, retry.content) == (first.status_code, first.content)
    kept = {name: value for name, value in retry.headers.items() if name in first.headers}
    assert kept["Content-Disposition"] == first.headers["Content-Disposition"]
    assert "Set-Cookie" not in retry.headers
    assert effects() == 1


@every_backend
def test_what_is_in_it_are_plain_bytes_with_the_records_expiry(inside: Inside) -> None:
    first, _ = send()
    assert inside.content().endswith(first.content)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(inside.content())
    seconds = inside.client.ttl(inside.names()[0])
    left = (records.get().expires_at - timezone.now()).total_seconds()
    assert left - 2 <= seconds <= left + 1


def test_other_payload_is_answered_by_the_database(inside: Inside) -> None:
    first, _ = send()
    other, statements = send(body=b'{"a":1}')
    assert (other.status_code, statements > 0) == (422, True)
    assert send()[0].content == first.content


@pytest.mark.parametrize("act", ["crash", "503", "throttled", "mark"])
def test_answer_that_is_not_stored_is_not_in_it(inside: Inside, act: str) -> None:
    send(path=f"/probe/{act}/")
    assert inside.names() == []


def test_raised_refusal_that_is_stored_is_in_it(inside: Inside) -> None:
    first, _ = send(path="/probe/invalid/")
    retry, statements = send(path="/probe/invalid/")
    assert (retry.status_code, retry.content, statements) == (400, first.content, 0)


def test_body_that_is_not_kept_is_not_in_it_either(inside: Inside, settings: Any) -> None:
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "STORE_BODY": False}
    first, _ = send()
    retry, statements = send()
    assert (retry.status_code, retry.content, statements) == (201, b"", 0)
    assert retry.headers["Idempotent-Body-Omitted"] == "true"
    assert first.content not in inside.content()


def test_functions_and_coroutines_have_it_too(inside: Inside, django_assert_num_queries: Any) -> None:
    async def coroutine() -> int:
        return await sync_to_async(effect)()

    def both() -> list[Any]:
        run = async_to_sync(aexecute_once)
        return [execute_once(effect, key="k", scope="s"), run(coroutine, key="a", scope="s")]

    values = both()
    with django_assert_num_queries(0):
        assert both() == values
    with pytest.raises(FingerprintMismatch):
        execute_once(effect, key="k", scope="s", fingerprint="other")


def test_signal_replayed_is_sent_for_a_hit(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "django_idempotency")
    send()
    send()
    assert [record.message.split()[0] for record in caplog.records] == ["Replayed"]


def test_answer_is_put_there_after_the_commit_of_the_outermost_block(inside: Inside) -> None:
    with transaction.atomic():
        execute_once(effect, key="k", scope="s")
        assert inside.names() == []
    assert len(inside.names()) == 1
    with pytest.raises(RuntimeError), transaction.atomic():
        execute_once(effect, key="other", scope="s")
        raise RuntimeError
    assert len(inside.names()) == 1


def test_commit_that_fails_puts_nothing_there(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise IntegrityError("deferred constraint")

    with monkeypatch.context() as patch, pytest.raises(IntegrityError):
        patch.setattr(connection, "_commit", fail)
        execute_once(effect, key="k", scope="s")
    assert inside.names() == []


def test_off_is_the_default(inside: Inside, settings: Any) -> None:
    settings.IDEMPOTENCY = {}
    send()
    assert inside.names() == []
    assert send()[1] > 0


# Who it is for


def test_tenants_in_schemas_of_one_database_do_not_meet(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their users' numbers are alike, so their scopes may be."""
    for schema in ("one", "two"):
        monkeypatch.setattr(connections["default"], "schema_name", schema, raising=False)
        send()
        records.all().delete()
    assert effects() == 2


def test_entry_of_one_tenant_does_not_count_in_the_place_of_anothers(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever can write to the cache: scope, key and fingerprint are the same."""
    first, _ = send()
    stolen = inside.content()
    inside.client.flushall()
    records.all().delete()
    monkeypatch.setattr(connections["default"], "schema_name", "two", raising=False)
    second, _ = send()
    inside.put(stolen)
    assert send()[0].content == second.content != first.content


def test_databases_with_one_alias_do_not_meet(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    send()
    operation = records.get()
    monkeypatch.setitem(connection.settings_dict, "NAME", "another")
    (name,) = inside.names()
    assert operation.id.hex in name.decode()
    assert replay_cache._name(operation.id, "default") not in name.decode()


def test_object_permission_is_asked_again_before_a_hit(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, client = UserFactory(), Client(headers={"Idempotency-Key": "k"})
    client.force_login(user)
    monkeypatch.setattr(OwnedView, "owners", {7: user.pk})
    answers = [client.post("/owned/7/", b"{}", content_type="application/json") for _ in range(2)]
    assert [(answer.status_code, is_replay(answer)) for answer in answers] == [(201, False), (201, True)]
    monkeypatch.setattr(OwnedView, "owners", {})
    refused = client.post("/owned/7/", b"{}", content_type="application/json")
    assert refused.status_code == 403
    assert answers[0].content not in refused.content


@pytest.mark.parametrize(("alias", "backend"), [("elsewhere", ""), ("odd", "filebased.FileBasedCache")])
def test_alias_that_cannot_be_used_is_an_error_in_the_log_and_the_database_answers(
    settings: Any, caplog: pytest.LogCaptureFixture, alias: str, backend: str
) -> None:
    if backend:
        settings.CACHES = {**settings.CACHES, alias: {"BACKEND": f"django.core.cache.backends.{backend}"}}
    settings.IDEMPOTENCY = {"CACHE": alias}
    first, _ = send()
    assert send()[0].content == first.content
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "run manage.py check" in caplog.text


# Encryption and forgery


def test_with_keys_nothing_is_readable(inside: Inside, settings: Any) -> None:
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    first, _ = send()
    assert first.content not in inside.content()
    assert b"application/json" not in inside.content()
    retry, statements = send()
    assert (retry.content, statements) == (first.content, 0)


def test_with_keys_a_plain_entry_does_not_count(inside: Inside, settings: Any) -> None:
    first, _ = send()
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    retry, statements = send()
    assert (retry.content, statements > 0) == (first.content, True)


def test_entry_that_no_key_decrypts_is_left_to_the_database(inside: Inside, settings: Any) -> None:
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    send()
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    assert send()[0].status_code == 503


class Bomb:
    """Tells when it is unpickled."""

    went_off = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "went_off", True)


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda ours: b"",
    "truncated": lambda ours: ours[:-1],
    "half": lambda ours: ours[: len(ours) // 2],
    "mark alone": lambda ours: ours[:15],
    "longer": lambda ours: ours + b"x",
    "one bit": lambda ours: ours[:60] + bytes([ours[60] ^ 1]) + ours[61:],
    "changed body": lambda ours: ours.replace(b'"id"', b'"ID"'),
    "number": lambda ours: b"42",
    "text": lambda ours: "käse".encode("latin-1"),
    "pickle": lambda ours: pickle.dumps(Bomb()),
}


@every_backend
@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_foreign_bytes_are_a_miss(inside: Inside, change: Callable[[bytes], bytes]) -> None:
    first, _ = send()
    inside.put(change(inside.content()))
    retry, statements = send()
    assert (retry.status_code, retry.content, is_replay(retry)) == (201, first.content, True)
    assert statements > 0
    assert effects() == 1
    assert not Bomb.went_off


def test_other_kinds_of_value_are_a_miss(inside: Inside) -> None:
    first, _ = send()
    (name,) = inside.names()
    inside.client.delete(name)
    inside.client.rpush(name, "a", "list")
    assert send()[0].content == first.content


def test_foreign_bytes_are_logged_once_and_never_shown(
    inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    send()
    inside.put(b"secret nonsense")
    for _ in range(3):
        send()
    assert len(caplog.records) == 1
    assert "not ours" in caplog.text
    assert "nonsense" not in caplog.text


def test_entry_of_another_key_does_not_count_in_the_place_of_this_one(inside: Inside) -> None:
    send("other", path="/probe/download/")
    stolen = inside.content()
    inside.client.flushall()
    first, _ = send()
    inside.put(stolen)
    assert send()[0].content == first.content


def test_entry_from_before_a_change_of_the_secret_key_is_a_miss(inside: Inside, settings: Any) -> None:
    first, _ = send()
    settings.SECRET_KEY = "another"
    retry, statements = send()
    assert (retry.content, statements > 0) == (first.content, True)


# What the database no longer has


def expired_now() -> None:
    retention.expire_now(records.all(), ids())


def deleted() -> None:
    retention.delete_chosen(records.all(), ids())


def forgotten() -> None:
    scope = records.get().scope
    call_command("forget_idempotency_records", "--scope", scope, verbosity=0)


@every_backend
@pytest.mark.parametrize("end", [expired_now, deleted, forgotten])
def test_ended_and_deleted_records_are_not_replayed(inside: Inside, end: Callable[[], None]) -> None:
    send()
    end()
    again, _ = send()
    assert (again.status_code, is_replay(again), effects()) == (201, False, 2)
    assert send()[0].content == again.content


def test_purged_record_is_not_replayed(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry has its record's end in it, so that a purge has nothing to take out."""
    send()
    inside.client.persist(inside.names()[0])
    later = timezone.now() + timedelta(days=2)
    monkeypatch.setattr(timezone, "now", lambda: later)
    monkeypatch.setattr("time.time", later.timestamp)
    retention.purge_expired("default", retention.PurgeLimits())
    again, _ = send()
    assert (is_replay(again), effects()) == (False, 2)


def test_retry_asks_the_database_from_before_the_commit_of_a_deletion(inside: Inside) -> None:
    """Between the COMMIT and a deletion after it, a retry would be answered with what is gone."""
    send()
    with transaction.atomic():
        retention.delete_chosen(records.all(), ids())
        assert replay_cache.find(_operation(), "default") is None
        transaction.set_rollback(True)
    assert is_replay(send()[0])


def _operation() -> Any:
    record = records.first()
    if record is None:
        return Operation("s", "k", "f", timedelta(1))
    return Operation(record.scope, record.key, record.fingerprint, timedelta(1))


def test_answer_finished_a_moment_ago_is_not_put_back_after_its_deletion(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker: COMMIT. Operator: deletes. Worker: puts what it has committed."""
    keep, kept = replay_cache.keep, []

    def late(*arguments: Any) -> None:
        kept.append(arguments)

    monkeypatch.setattr(replay_cache, "keep", late)
    send()
    deleted()
    keep(*kept[0])
    monkeypatch.undo()
    again, _ = send()
    assert (is_replay(again), effects()) == (False, 2)


def test_new_answer_takes_the_place_of_one_whose_record_was_deleted_past_us(inside: Inside) -> None:
    send()
    records.all().delete()
    second, _ = send(body=b'{"a":1}')
    retry, statements = send(body=b'{"a":1}')
    assert (retry.content, statements) == (second.content, 0)


# In tests, and in crowds


@pytest.mark.django_db(transaction=False)
def test_in_a_test_case_that_never_commits_nothing_is_put_there(inside: Inside) -> None:
    send()
    retry, statements = send()
    assert (is_replay(retry), statements > 0) == (True, True)
    assert inside.names() == []


def test_all_threads_of_a_process_share_it(inside: Inside, parallel: Parallel) -> None:
    first, _ = send()
    found = replay_cache._chosen()
    answers = parallel.at_once(16, lambda number: (send()[0].content, replay_cache._chosen()))
    assert set(answers) == {(first.content, found)}
