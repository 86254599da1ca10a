"""What a refusal says: codes and titles are the wire contract's."""

from __future__ import annotations

import pytest

from django_idempotency.exceptions import (
    FingerprintMismatch,
    IdempotencyError,
    InProgress,
    KeyInvalid,
    KeyMissing,
    OutcomeUnknown,
    ResultExpired,
    StoreUnavailable,
)

pytestmark = pytest.mark.once

TABLE = [
    (KeyMissing, "missing-key", "Idempotency-Key is missing"),
    (KeyInvalid, "invalid-key", "Idempotency-Key is invalid"),
    (InProgress, "conflict", "A request is outstanding for this Idempotency-Key"),
    (FingerprintMismatch, "fingerprint-mismatch", "Idempotency-Key is already used"),
    (StoreUnavailable, "store-unavailable", "Idempotency store is unavailable"),
    (OutcomeUnknown, "outcome-unknown", "The outcome of this Idempotency-Key is unknown"),
    (ResultExpired, "result-expired", "The result of this Idempotency-Key is no longer kept"),
]


@pytest.mark.parametrize(("kind", "code", "title"), TABLE)
def test_code_and_title_are_stable(kind: type[IdempotencyError], code: str, title: str) -> None:
    assert issubclass(kind, IdempotencyError)
    assert (kind.code, kind.title) == (code, title)


def test_every_refusal_is_in_the_table_and_says_what_to_do_in_words_of_its_own() -> None:
    kinds = [kind for kind, _, _ in TABLE]
    assert set(kinds) == set(IdempotencyError.__subclasses__())
    assert len({str(kind()) for kind in [*kinds, IdempotencyError]}) == len(kinds) + 1


def test_own_words_replace_the_default() -> None:
    error = KeyInvalid("Send a UUID.")
    assert (str(error), error.detail) == ("Send a UUID.", "Send a UUID.")
    assert str(KeyInvalid("")) == KeyInvalid.default_detail


def test_outcome_is_known_unless_said_otherwise() -> None:
    assert not StoreUnavailable().outcome_unknown
    assert StoreUnavailable("Retry.", outcome_unknown=True).outcome_unknown
