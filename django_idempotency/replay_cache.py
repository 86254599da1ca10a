"""Finished answers in Django's cache: an accelerator that may be empty, slow, dead or poisoned, and is never the truth.

An answer is put there after its COMMIT, and found there where the claim would be made. Whatever goes wrong is a miss,
and the database answers.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.utils.encoding import force_bytes

from django_idempotency.conf import conf
from django_idempotency.core.circuits import Circuit
from django_idempotency.core.entries import Entry, packed, unpacked
from django_idempotency.core.operations import Operation, Snapshot
from django_idempotency.encryption import is_encrypted, opened, sealed
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.private_cache import private_cache

T = TypeVar("T")

logger = logging.getLogger("django_idempotency")

_MARK = b"\0idempotency:1\0"
_SIGNATURE = 32

#: Stands where an answer was forgotten, so that whoever finished it a moment ago cannot put it back.
_GONE = b"\0idempotency:gone\0"
GONE_SECONDS = 60


def find(operation: Operation, using: str) -> Snapshot | None:
    """Return the answer of ``operation`` if the cache has it and everything about it is right; never raises."""
    cache = _chosen()
    return None if cache is None else cache.find(operation, _name(operation.id, using))


def keep(operation: Operation, using: str, snapshot: Snapshot, ends: float) -> None:
    """Put a committed answer there until ``ends``, in Unix time and not after its record's expiry; never raises."""
    cache = _chosen()
    if cache is not None and ends > time.time():
        entry = Entry(operation.digest, operation.fingerprint, ends, snapshot)
        cache.keep(_name(operation.id, using), entry)


def forget(ids: Collection[UUID], using: str) -> None:
    """Take the answers of these records out, before the COMMIT that ends or deletes them; never raises.

    Until then a retry asks the database. Where the cache cannot be reached, that is logged as an error: what it
    still has is replayed until its own end.
    """
    cache = _chosen()
    if cache is not None and ids:
        cache.forget([_name(record_id, using) for record_id in ids])


class _ReplayCache:
    """One alias of CACHES, with what this process knows of its state."""

    def __init__(self, alias: str, backend: Any) -> None:
        self.alias = alias
        self.backend = backend
        # Apart, because a cache that is full still reads.
        self.reading, self.writing = Circuit(), Circuit()
        self.has_told = False

    def find(self, operation: Operation, name: str) -> Snapshot | None:
        content = self._ask(self.reading, lambda: self.backend.get(name))
        if content is None or content == _GONE:
            return None
        try:
            entry = _verified(name, content)
        except ValueError:
            self._tell_of_foreign_bytes()
            return None
        return entry.snapshot if entry is not None and entry.answers(operation, time.time()) else None

    def keep(self, name: str, entry: Entry) -> None:
        def put() -> None:
            content, seconds = _signed(name, entry), entry.ends - time.time()
            # Not over the mark of a record that was deleted between our COMMIT and now.
            if not self.backend.add(name, content, seconds) and self.backend.get(name) != _GONE:
                self.backend.set(name, content, seconds)

        self._ask(self.writing, put)

    def forget(self, names: Collection[str]) -> None:
        try:
            self.backend.set_many(dict.fromkeys(names, _GONE), GONE_SECONDS)
        except Exception:  # noqa: BLE001 (a cache that is full still deletes)
            self._delete(names)

    def _delete(self, names: Collection[str]) -> None:
        try:
            self.backend.delete_many(names)
        except Exception as error:  # noqa: BLE001 (whatever a backend raises)
            text = "The replay cache %r still has answers of up to %d records that are ended or deleted (%s): flush it."
            logger.error(text, self.alias, len(names), _described(error))

    def _ask(self, circuit: Circuit, call: Callable[[], T]) -> T | None:
        ticket = circuit.ticket()
        if ticket is None:
            return None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 (whatever a backend raises, the database answers)
            if (pause := circuit.failed(ticket)) is not None:
                text = "The replay cache %r cannot be used (%s): it is asked again in %d s."
                logger.warning(text, self.alias, _described(error), pause)
            return None
        if circuit.succeeded(ticket):
            logger.warning("The replay cache %r can be used again.", self.alias)
        return result

    def _tell_of_foreign_bytes(self) -> None:
        if not self.has_told:
            self.has_told = True
            text = "The replay cache %r holds bytes that are not ours, or from before a change of SECRET_KEY: ignored."
            logger.warning(text, self.alias)


_opened: dict[str, tuple[Any, _ReplayCache | None]] = {}


def _chosen() -> _ReplayCache | None:
    """Return the cache that the settings name now; one connection a process, and a new one when CACHES is replaced."""
    alias: str | None = conf.CACHE
    if alias is None:
        return None
    params = settings.CACHES.get(alias)
    known = _opened.get(alias)
    if known is None or known[0] is not params:
        known = _opened[alias] = (params, _connected(alias))
    return known[1]


def _connected(alias: str) -> _ReplayCache | None:
    try:
        return _ReplayCache(alias, private_cache(alias))
    except Exception as error:  # noqa: BLE001 (whatever a backend raises when it is made)
        logger.error("The replay cache %r is not used (%s): run manage.py check.", alias, _described(error))
        return None


def _described(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _name(record_id: UUID, using: str) -> str:
    connection = connections[using]
    return (
        f"idempotency:{_place(using, connection.settings_dict['NAME'], _schema(connection))}:{record_id.hex}"
    )


def _schema(connection: Any) -> str:
    """Return the schema of a tenant, as django-tenants sets it: scopes of two tenants may be alike."""
    return str(getattr(connection, "schema_name", ""))


@lru_cache(maxsize=1024)
def _place(using: str, database: Any, schema: str) -> str:
    return hashlib.sha256(repr((using, str(database), schema)).encode()).hexdigest()[:16]


def _signed(name: str, entry: Entry) -> bytes:
    content = sealed(packed(entry)) or b""
    return _MARK + _signature(name, content) + content


def _verified(name: str, content: Any) -> Entry | None:
    """Return the entry, or None for one that the keys of today would not write; raise ValueError if it is not ours.

    With ENCRYPTION_KEYS only encrypted bytes count.
    """
    start = len(_MARK)
    if not isinstance(content, bytes) or not content.startswith(_MARK):
        raise ValueError
    signature, kept = content[start : start + _SIGNATURE], content[start + _SIGNATURE :]
    if not hmac.compare_digest(signature, _signature(name, kept)):
        raise ValueError
    if conf.ENCRYPTION_KEYS and not is_encrypted(kept):
        return None
    try:
        return unpacked(opened(kept) or b"")
    except StoreUnavailable:
        return None


def _signature(name: str, content: bytes) -> bytes:
    """Return what only a process with our SECRET_KEY can make, of these bytes under this name."""
    return hmac.digest(_signing_key(settings.SECRET_KEY), name.encode() + content, "sha256")


@lru_cache(maxsize=8)
def _signing_key(secret: str | bytes) -> bytes:
    return hashlib.sha256(b"django_idempotency.replay_cache" + force_bytes(secret)).digest()
