"""A finished answer as bytes for a cache: no pickle, and everything that a hit has to be checked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from django_idempotency.core.operations import Operation, Snapshot

_DIGEST, _LENGTH = 32, 4


@dataclass(frozen=True)
class Entry:
    """An answer with whose it is: the whole digest of (scope, key), the fingerprint, and its end in Unix time."""

    digest: bytes = field(repr=False)
    fingerprint: str = field(repr=False)
    ends: float
    snapshot: Snapshot

    def answers(self, operation: Operation, now: float) -> bool:
        """Tell whether this is the answer of ``operation``; what differs or has expired is for the database."""
        same = (self.digest, self.fingerprint) == (operation.digest, operation.fingerprint)
        return same and now < self.ends


def packed(entry: Entry) -> bytes:
    """Return the digest, the length of a JSON head, the head, and the body as it is."""
    snapshot = entry.snapshot
    head = [entry.fingerprint, entry.ends, snapshot.status, snapshot.headers, snapshot.body is not None]
    encoded = json.dumps(head, separators=(",", ":")).encode("ascii")
    return entry.digest + len(encoded).to_bytes(_LENGTH, "big") + encoded + (snapshot.body or b"")


def unpacked(content: bytes) -> Entry:
    """Return what ``packed()`` was given; the caller has seen to it that nobody else wrote these bytes."""
    start = _DIGEST + _LENGTH
    end = start + int.from_bytes(content[_DIGEST:start], "big")
    fingerprint, ends, status, headers, has_body = json.loads(content[start:end])
    named = tuple((name, value) for name, value in headers)
    return Entry(
        content[:_DIGEST], fingerprint, ends, Snapshot(status, named, content[end:] if has_body else None)
    )
