"""The values that travel between the layers: an operation, its claim, its stored answer, its outcome."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Generic, TypeVar

T = TypeVar("T")


def operation_digest(scope: str, key: str) -> bytes:
    """Return SHA-256 over the length-prefixed scope and key: no two pairs share an encoding."""
    digest = hashlib.sha256()
    for text in (scope, key):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()


def operation_id(scope: str, key: str) -> uuid.UUID:
    """Return the primary key of the record of (scope, key): a digest of both.

    A key that is a UUID of version 7 begins with its time, and then so does the id: ids that grow with time cost a
    database less, and can be partitioned by it. Version 5, because MariaDB's ``uuid`` type refuses a quarter of
    arbitrary 128-bit values and none of this form.
    """
    return _id_of(key, operation_digest(scope, key))


_UUID_7 = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


def _id_of(key: str, digest: bytes) -> uuid.UUID:
    """Begin with the 48 bits of milliseconds that a UUID of version 7 begins with (RFC 9562); the rest is digest."""
    parts = _UUID_7.fullmatch(key)
    time = bytes.fromhex(parts[1] + parts[2]) if parts else b""
    return uuid.UUID(bytes=time + digest[len(time) : 16], version=5)


class _Payload:
    """A field that takes bytes, None, or what makes them; it is called when they are first asked for."""

    def __get__(self, owner: object | None, kind: type) -> bytes | None:
        if owner is None:
            return None
        payload = owner.__dict__["_payload"]
        if callable(payload):
            payload = owner.__dict__["_payload"] = payload()
        return payload

    def __set__(self, owner: object, value: bytes | Callable[[], bytes | None] | None) -> None:
        # A dataclass takes this object itself for the field's default.
        owner.__dict__["_payload"] = None if isinstance(value, _Payload) else value


@dataclass(frozen=True)
class Operation:
    """What must happen once: a key in its scope, and the fingerprint of the request that was made with it.

    ``request_payload`` is None when it is not kept, and made when a claim writes it: a replay needs none. ``path`` is
    percent-encoded. ``repr`` shows neither key, scope nor payload (invariant I11).
    """

    scope: str = field(repr=False)
    key: str = field(repr=False)
    fingerprint: str = field(repr=False)
    retention: timedelta
    method: str = ""
    path: str = field(default="", repr=False)
    request_payload: _Payload = field(default=_Payload(), repr=False)

    @cached_property
    def digest(self) -> bytes:
        return operation_digest(self.scope, self.key)

    @cached_property
    def id(self) -> uuid.UUID:
        return _id_of(self.key, self.digest)


@dataclass(frozen=True)
class Claim:
    """The right to execute one operation, held by whoever has it in hand; views see it as ``request.idempotency``.

    ``attempt`` counts the claims of this record and never repeats: it is the fence of the completing write.
    """

    key: str = field(repr=False)
    record_id: uuid.UUID
    attempt: int

    def child_key(self, name: str) -> str:
        """Return a key to hand to a provider downstream: the same for every retry of this operation, per ``name``."""
        return str(uuid.uuid5(self.record_id, name))


@dataclass(frozen=True)
class Snapshot:
    """A stored answer: status, allowed headers in order, and body bytes; ``body`` is None when it was not kept."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes | None = field(repr=False)


@dataclass(frozen=True)
class StoredRecord:
    """A record as it was read: what ``decide()`` needs of it, and no more."""

    scope: str = field(repr=False)
    key: str = field(repr=False)
    fingerprint: str = field(repr=False)
    state: str
    expires_at: datetime


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What one execution came to: the answer to give, and its snapshot, or None when it must not be stored."""

    answer: T
    snapshot: Snapshot | None
