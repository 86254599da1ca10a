"""What can go wrong with a keyed operation; knows no HTTP, imports nothing."""

from __future__ import annotations


class IdempotencyError(Exception):
    """Base of every refusal of this package.

    ``code`` is stable and meant for programs, ``title`` is the problem's name, ``str(error)`` says what
    happened and what to do next. None of them ever holds a key, a payload or an answer.
    """

    code = "idempotency-error"
    title = "Idempotency error"
    default_detail = "The request could not be made idempotent."

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.default_detail
        super().__init__(self.detail)


class KeyMissing(IdempotencyError):
    """The operation needs a key and none was sent; nothing was looked up and nothing ran."""

    code = "missing-key"
    title = "Idempotency-Key is missing"
    default_detail = (
        "This operation needs an Idempotency-Key header: send one unique value per logical action."
    )


class KeyInvalid(IdempotencyError):
    """The key is malformed; nothing was looked up and nothing ran."""

    code = "invalid-key"
    title = "Idempotency-Key is invalid"
    default_detail = (
        "The Idempotency-Key is malformed: send 1 to 255 visible ASCII characters, a UUID for example."
    )


class InProgress(IdempotencyError):
    """Another execution of the operation holds the claim right now; nothing ran here."""

    code = "conflict"
    title = "A request is outstanding for this Idempotency-Key"
    default_detail = "A request with this key is still running: retry with the same key a little later."


class FingerprintMismatch(IdempotencyError):
    """The key was used for a different request; the record is untouched and nothing ran."""

    code = "fingerprint-mismatch"
    title = "Idempotency-Key is already used"
    default_detail = "This key was used for a different request: send a new key for a new action."


class StoreUnavailable(IdempotencyError):
    """The record store cannot be used; retry with the same key, the retry reads the truth.

    ``outcome_unknown`` is False when the view did not run or was rolled back, and True when the connection
    was lost under the view or at COMMIT, so that only a read can tell (invariants I9 and I10).
    """

    code = "store-unavailable"
    title = "Idempotency store is unavailable"
    default_detail = "Nothing was executed: retry with the same key."

    def __init__(self, detail: str | None = None, *, outcome_unknown: bool = False) -> None:
        super().__init__(detail)
        self.outcome_unknown = outcome_unknown


class OutcomeUnknown(IdempotencyError):
    """An execution ended without telling its outcome; an operator has to settle it."""

    code = "outcome-unknown"
    title = "The outcome of this Idempotency-Key is unknown"
    default_detail = (
        "An earlier request with this key ended without a known outcome: ask the operator before retrying."
    )


class ResultExpired(IdempotencyError):
    """The operation ran, and its answer is no longer kept."""

    code = "result-expired"
    title = "The result of this Idempotency-Key is no longer kept"
    default_detail = "The request was executed, but its answer is no longer kept: do not retry it."
