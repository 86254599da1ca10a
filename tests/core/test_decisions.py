"""The state table, and the identity of an operation."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.decisions import Decision, decide
from django_idempotency.core.operations import (
    Claim,
    Operation,
    Snapshot,
    StoredRecord,
    operation_digest,
    operation_id,
)

pytestmark = pytest.mark.once

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
OPERATION = Operation("s", "k", "1:a", timedelta(hours=1))


def record(
    state: str, fingerprint: str = "1:a", seconds: int = 1, scope: str = "s", key: str = "k"
) -> StoredRecord:
    return StoredRecord(scope, key, fingerprint, state, NOW + timedelta(seconds=seconds))


TABLE = [
    (None, Decision.CREATE),
    (record("in_progress"), Decision.TAKE_OVER),
    (record("in_progress", "1:b"), Decision.TAKE_OVER),
    (record("completed"), Decision.REPLAY),
    (record("completed", "1:b"), Decision.MISMATCH),
    (record("unknown"), Decision.UNKNOWN),
    (record("unknown", "1:b"), Decision.UNKNOWN),
    *[(record(state, seconds=0), Decision.TAKE_OVER) for state in ("in_progress", "completed", "unknown")],
    *[(record(state, scope=s, key=k), Decision.COLLISION) for state, (s, k) in
      product(("in_progress", "completed", "unknown"), (("s", "K"), ("t", "k")))],
]  # fmt: skip


@pytest.mark.parametrize(("stored", "decision"), TABLE)
def test_state_table(stored: StoredRecord | None, decision: Decision) -> None:
    assert decide(stored, OPERATION, NOW) is decision


STATES = st.sampled_from(["in_progress", "completed", "unknown"])


@given(STATES, st.sampled_from(["1:a", "1:b"]), st.integers(-3, 3))
def test_an_answer_is_given_only_for_the_same_request_before_it_expires(
    state: str, print_: str, left: int
) -> None:
    replay = decide(record(state, print_, left), OPERATION, NOW) is Decision.REPLAY
    assert replay == (state == "completed" and print_ == "1:a" and left > 0)


def test_id_is_pinned_and_of_a_form_that_every_database_takes() -> None:
    assert operation_id("user:1 orders/", "k") == UUID("34c922c6-38c7-5384-ae95-69384362d7e3")
    assert operation_id("s", "k").version == 5
    assert OPERATION.id == operation_id("s", "k") != operation_id("k", "s")


def test_id_of_a_key_that_is_a_uuid_of_version_7_begins_with_its_time() -> None:
    key = "01936f00-1234-7abc-8def-0123456789ab"
    found = operation_id("s", key)
    assert found.hex[:12] == "01936f001234"
    assert found.version == 5
    assert found.bytes[9:] == operation_digest("s", key)[9:16]
    others = [
        key.upper(),
        key.replace("-7", "-4"),
        key.replace("-8def", "-cdef"),
        key.replace("-", ""),
        key + "0",
        "\u0660" + key[1:],
    ]
    timed = [operation_id("s", other).hex[:12] == "01936f001234" for other in others]
    assert timed == [True, False, False, False, False, False]
    assert operation_id("t", key) != found != operation_id("s", key.upper())


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_scope_and_key_do_not_run_into_each_other(a: str, b: str, c: str, d: str) -> None:
    assert (operation_digest(a, b) == operation_digest(c, d)) == ((a, b) == (c, d))
    assert operation_digest("\ud800" + a, b) != operation_digest("\ud801" + a, b)


def test_repr_shows_no_secret() -> None:
    secret = "do-not-show"
    values = [
        Operation(secret, secret, secret, timedelta(1), "POST", secret, secret.encode()),
        Claim(secret, operation_id("s", "k"), 1),
        Snapshot(200, ((secret, secret),), secret.encode()),
        StoredRecord(secret, secret, secret, "completed", NOW),
    ]
    assert secret not in repr(values)


def test_child_keys_are_stable_and_distinct() -> None:
    first, retry = Claim("k", operation_id("s", "k"), 1), Claim("k", operation_id("s", "k"), 2)
    assert first.child_key("charge") == retry.child_key("charge") != first.child_key("refund")
    assert first.child_key("charge") != Claim("k", operation_id("t", "k"), 1).child_key("charge")
