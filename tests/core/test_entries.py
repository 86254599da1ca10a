"""A finished answer as bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.entries import Entry, packed, unpacked
from django_idempotency.core.operations import Operation, Snapshot

pytestmark = pytest.mark.once

OPERATION = Operation("scope", "key", "1:a", timedelta(days=1))
HEADERS = (("Content-Type", "application/json"), ("Location", "/ä/"))
ENTRY = Entry(OPERATION.digest, OPERATION.fingerprint, 1000.5, Snapshot(201, HEADERS, b"\0body"))

headers = st.lists(st.tuples(st.text(), st.text())).map(tuple)
snapshots = st.builds(Snapshot, st.integers(100, 599), headers, st.none() | st.binary())


@given(snapshots, st.text(), st.floats(0, 1e10))
def test_what_is_packed_is_unpacked(snapshot: Snapshot, fingerprint: str, ends: float) -> None:
    entry = Entry(OPERATION.digest, fingerprint, ends, snapshot)
    assert unpacked(packed(entry)) == entry


def test_a_body_that_was_not_kept_is_no_empty_body() -> None:
    absent, empty = (replace(ENTRY, snapshot=Snapshot(204, (), body)) for body in (None, b""))
    assert (unpacked(packed(absent)).snapshot.body, unpacked(packed(empty)).snapshot.body) == (None, b"")


def test_body_is_in_it_as_it_is() -> None:
    assert packed(ENTRY).endswith(b"\0body")


@pytest.mark.parametrize(
    ("change", "now", "expected"),
    [
        ({}, 1000.0, True),
        ({}, 1000.5, False),
        ({"key": "other"}, 1000.0, False),
        ({"scope": "other"}, 1000.0, False),
        ({"fingerprint": "2:a"}, 1000.0, False),
        ({"fingerprint": "1:b"}, 1000.0, False),
    ],
)
def test_it_answers_its_own_operation_until_its_end(
    change: dict[str, str], now: float, expected: bool
) -> None:
    assert ENTRY.answers(replace(OPERATION, **change), now) is expected  # type: ignore[arg-type]


def test_all_of_the_digest_counts_and_not_the_part_in_the_records_id() -> None:
    near = replace(ENTRY, digest=ENTRY.digest[:16] + bytes(16))
    assert not near.answers(OPERATION, 0)
