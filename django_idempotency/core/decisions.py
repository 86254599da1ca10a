"""The whole state table of a record, as one pure function."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from django_idempotency.core.operations import Operation, StoredRecord

IN_PROGRESS = "in_progress"
COMPLETED = "completed"
UNKNOWN = "unknown"


class Decision(Enum):
    """What to do with an operation, given the record that was read for it."""

    CREATE = "no record: create one"
    TAKE_OVER = (
        "expired, or left by an owner who is gone unless its lock is held: whoever gets the lock owns it"
    )
    REPLAY = "completed with the same fingerprint: give the stored answer"
    MISMATCH = "completed with another fingerprint: refuse, leave the record alone"
    UNKNOWN = "an operator has to settle the outcome: refuse"
    COLLISION = "the id belongs to another scope and key: refuse"


def decide(record: StoredRecord | None, operation: Operation, now: datetime) -> Decision:
    """Return what to do; a record binds a caller only while it is completed (or unknown) and not expired.

    A record in progress binds nobody, not even to its fingerprint: its lock says whether its owner lives.
    """
    if record is None:
        return Decision.CREATE
    if (record.scope, record.key) != (operation.scope, operation.key):
        return Decision.COLLISION
    if record.expires_at <= now or record.state == IN_PROGRESS:
        return Decision.TAKE_OVER
    if record.state == UNKNOWN:
        return Decision.UNKNOWN
    return Decision.REPLAY if record.fingerprint == operation.fingerprint else Decision.MISMATCH
