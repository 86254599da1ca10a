"""Read a request's body without taking it away from the view: what it means, what is kept, and how to rewind it."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.base import File
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.datastructures import MultiValueDict

from django_idempotency.conf import conf
from django_idempotency.core.fingerprints import (
    Part,
    canonical_form,
    canonical_json,
    canonical_multipart,
    digest_parts,
)
from django_idempotency.core.payloads import redactor_for
from django_idempotency.exceptions import StoreUnavailable

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_CHUNK = 64 * 1024
_SESSION_DATA = "_session_cache"
_MESSAGES = "_messages"
_CONTAINERS = (list, dict, set)
_GONE = (
    "The transaction was undone, and the view had closed or moved an uploaded file that another run would read,"
    " so nothing was kept: retry with the same key."
)

logger = logging.getLogger("django_idempotency")


@dataclass(frozen=True)
class Payload:
    """A request's payload: the digest of what it means, and the bytes to keep of it (None: nothing)."""

    digesting: Callable[[], str] = field(repr=False)
    keep: Callable[[], bytes | None] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """Return the digest; made when it is asked for, since a FINGERPRINT may tell more cheaply."""
        return self.digesting()

    @cached_property
    def kept(self) -> bytes | None:
        """Return what is kept, redacted and not too large; made when it is asked for."""
        kept = self.keep() if conf.STORE_REQUEST_PAYLOAD else None
        return kept if kept is not None and len(kept) <= conf.MAX_BODY_BYTES else None


def read_payload(request: HttpRequest, ignore: Collection[str] = ()) -> Payload:
    """Return the payload of a request whose body is not multipart; the view can still read it all.

    JSON and urlencoded forms count by their meaning, anything else by its bytes. A body too large for
    ``request.body`` is spooled to disk while it is digested, and is not kept.
    """
    try:
        body = request.body
    except RequestDataTooBig:
        spooled = _digest(request, "spooled", _spooled_digest(request))
        return Payload(lambda: spooled, _nothing)
    kind = request.content_type or ""
    return Payload(lambda: _digest(request, *_canonical(kind, body, ignore)), lambda: _kept(kind, body))


def multipart_payload(request: Any, ignore: Collection[str] = ()) -> Payload:
    """Return the payload of a multipart request by its parts (several SDKs send a new boundary with each retry).

    ``request`` offers POST and FILES as parsed by whoever parses for the view; each file is read once, in chunks,
    and left at its start.
    """
    parts = list(_parts(request.POST, request.FILES))
    digest = _digest(request, "multipart", canonical_multipart(parts, ignore))
    return Payload(lambda: digest, lambda: redactor_for(tuple(conf.REDACT)).multipart(parts))


class Restart:
    """A request as it is now, for another run of the view: attributes, session, and input at its start."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.attributes = dict(request.__dict__)
        self.session = _session_state(self.attributes.get("session"))
        self.messages = fresh(self.attributes.get(_MESSAGES))

    def restore(self) -> None:
        """Undo what the view did to the request; raise StoreUnavailable where its files cannot be read again."""
        self.request.__dict__.clear()
        self.request.__dict__.update(self.attributes)
        if self.messages is not None:
            setattr(self.request, _MESSAGES, fresh(self.messages))
        session = self.attributes.get("session")
        if session is not None:
            session.__dict__.clear()
            session.__dict__.update(self.session)
            self.session = _session_state(session)
        try:
            rewind(self.request)
        except (OSError, ValueError) as error:
            logger.error(_GONE, exc_info=error)
            raise StoreUnavailable(_GONE) from error


def fresh(value: Any) -> Any:
    """Return a copy of an object whose lists, dicts and sets are its own: a run must not find another one's in them."""
    copied = copy.copy(value)
    held = getattr(copied, "__dict__", None)
    if isinstance(held, dict):
        held.update(own_containers(held))
    return copied


def own_containers(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an object's attributes whose lists, dicts and sets are copies too."""
    return {name: each.copy() if type(each) in _CONTAINERS else each for name, each in attributes.items()}


def let_go(response: HttpResponseBase | None) -> None:
    """Close the files of an answer that nobody gets; ``close()`` would tell Django that the request is finished."""
    for close in getattr(response, "_resource_closers", ()):
        with suppress(Exception):
            close()


def _session_state(session: Any) -> dict[str, Any]:
    """Return a session's attributes, its data only where a middleware has changed them: else they are read again."""
    state = dict(getattr(session, "__dict__", {}))
    if state.get("modified"):
        state[_SESSION_DATA] = copy.deepcopy(state.get(_SESSION_DATA, {}))
    else:
        state.pop(_SESSION_DATA, None)
    return state


def rewind(request: HttpRequest) -> None:
    """Put whatever has been read of a request back to its start, for another run of the view.

    Raises ValueError for a file that the view closed, OSError for one that it moved.
    """
    internals: Any = request
    for _, file in _each(getattr(request, "_files", MultiValueDict())):
        file.seek(0)
        if hasattr(file, "temporary_file_path"):
            os.stat(file.temporary_file_path())  # a storage takes it away by moving it
    if isinstance(internals._stream, (SpooledTemporaryFile, BytesIO)):
        internals._stream.seek(0)
        internals._read_started = hasattr(request, "_body")


def _canonical(media_type: str, body: bytes, ignore: Collection[str]) -> tuple[str, bytes]:
    if _is_json(media_type):
        canonical = canonical_json(body, ignore)
        return ("not json", body) if canonical is None else ("json", canonical)
    if media_type == FORM:
        return "form", canonical_form(body, ignore)
    return ("multipart unread" if media_type == MULTIPART else "raw"), body


def _kept(media_type: str, body: bytes) -> bytes | None:
    """Return what to keep of a body; one that should be redacted and cannot be read is not kept."""
    redactor = redactor_for(tuple(conf.REDACT))
    if _is_json(media_type):
        return redactor.json(body)
    if media_type == FORM:
        return redactor.form(body)
    return None if media_type == MULTIPART else bytes(body)


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _nothing() -> None:
    return None


def _digest(request: Any, kind: str, content: bytes) -> str:
    query = request.META.get("QUERY_STRING", "").encode("utf-8", "surrogateescape")
    media_type = (request.content_type or "").partition(";")[0].strip().lower().encode()
    return digest_parts(("query", query), ("media type", media_type), (kind, content))


def _spooled_digest(request: HttpRequest) -> bytes:
    """Digest the stream while copying it, and leave the copy as the request's stream, unread."""
    internals: Any = request
    spool = SpooledTemporaryFile(max_size=_CHUNK)  # noqa: SIM115 (the request keeps it)
    source = internals._stream
    # Python 3.10: a spool has no seekable().
    if isinstance(source, SpooledTemporaryFile) or source.seekable():
        source.seek(0)  # Django measures a seekable stream by going to its end
    digest = hashlib.sha256()
    for chunk in iter(lambda: source.read(_CHUNK), b""):
        digest.update(chunk)
        spool.write(chunk)
    spool.seek(0)
    weakref.finalize(request, spool.close)
    internals._stream, internals._read_started = spool, False
    return digest.digest()


def _parts(fields: Any, files: MultiValueDict[str, Any]) -> Iterator[Part]:
    """Yield a part for each field and file; a parser of the project's own may have nested both in one structure."""
    nested = not isinstance(fields, MultiValueDict)
    for name, value in _leaves("", fields) if nested else _each(fields):
        if not isinstance(value, File):
            yield Part(name, text=str(value))
        elif nested:
            yield _file_part(name, value)
    yield from (_file_part(name, file) for name, file in _each(files))


def _each(values: Any) -> Iterator[tuple[str, Any]]:
    for name, several in values.lists():
        yield from ((name, value) for value in several)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(f"{name}[{key}]" if name else str(key), inner)
    else:
        yield name, value


def _file_part(name: str, file: Any) -> Part:
    return Part(name, None, file.name, getattr(file, "content_type", None), file.size, _file_digest(file))


def _file_digest(file: Any) -> str:
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()
