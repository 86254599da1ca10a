"""Encryption at rest of payloads and answers: Fernet (AES-128-CBC, HMAC-SHA256), with keys that can be rotated."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.conf import conf
from django_idempotency.exceptions import StoreUnavailable

_ENCRYPTED = b"\0fernet:"
_PLAIN = b"\0plain:"

_UNUSABLE = "The record store is not set up to encrypt, so nothing was executed: retry with the same key."
_UNREADABLE = "The answer is stored and cannot be read now: retry with the same key."


def is_installed() -> bool:
    """Tell whether the package of the extra "encryption" is there."""
    return find_spec("cryptography") is not None


def sealed(content: bytes | None) -> bytes | None:
    """Return what to write for ``content``: encrypted by the first of ENCRYPTION_KEYS, plain while there is none.

    Plain bytes that begin with a mark of ours get one in front, so that no reader takes them for encrypted ones.
    Raises StoreUnavailable for keys that cannot be used, for None too: so that is known before the view runs.
    """
    cipher = _cipher(_UNUSABLE)
    if content is None:
        return None
    if cipher is not None:
        return _ENCRYPTED + cipher.encrypt(content)
    return _PLAIN + content if content.startswith((_ENCRYPTED, _PLAIN)) else content


def opened(kept: bytes | memoryview | None) -> bytes | None:
    """Return what ``sealed()`` was given; bytes without a mark were written plain, and are read so.

    Raises StoreUnavailable when no key decrypts them: an answer that cannot be read must not run again.
    """
    if kept is None:
        return None
    kept = bytes(kept)
    if is_encrypted(kept):
        return _decrypted(kept[len(_ENCRYPTED) :])
    return kept.removeprefix(_PLAIN)


def is_encrypted(kept: bytes) -> bool:
    """Tell whether ``sealed()`` had keys when it wrote these bytes."""
    return kept.startswith(_ENCRYPTED)


def _decrypted(token: bytes) -> bytes:
    cipher = _cipher(_UNREADABLE)
    if cipher is None:
        _fail(_UNREADABLE, "it is encrypted, and the list is empty")
    try:
        content: bytes = cipher.decrypt(token)
    except _fernet().InvalidToken:
        _fail(_UNREADABLE, "none of them decrypts it")
    return content


def _cipher(detail: str) -> Any:
    """Return what encrypts and decrypts, or None while the list is empty; anything but a list of keys fails."""
    keys = conf.ENCRYPTION_KEYS
    if keys in ([], ()):
        return None
    if not is_installed():
        _fail(detail, "the package cryptography is not installed")
    try:
        return _multi_fernet(tuple(keys))
    except (TypeError, ValueError):
        _fail(detail, "it is no list of Fernet keys")


@lru_cache(maxsize=8)
def _multi_fernet(keys: tuple[str, ...]) -> Any:
    fernet = _fernet()
    return fernet.MultiFernet([fernet.Fernet(key) for key in keys])


def _fernet() -> Any:
    """Return the module, imported when the first key is used: it takes as long as half of this app."""
    return import_module("cryptography.fernet")


def _fail(detail: str, reason: str) -> NoReturn:
    """Tell the client what to do, and the log, by the cause, what is wrong; neither quotes a key."""
    raise StoreUnavailable(detail) from ImproperlyConfigured(f"IDEMPOTENCY['ENCRYPTION_KEYS']: {reason}.")
