"""Read a request's body without taking it away from the view: what it means, and what is kept."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.base import File
from django.http import HttpRequest
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

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_CHUNK = 64 * 1024


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

    JSON and urlencoded forms count by their meaning, anything else by its bytes; JSON by any other name too, for
    there are views that parse it whatever it is called. A body too large for
    ``request.body`` is spooled to disk while it is digested, and is not kept.
    """
    try:
        body = request.body
    except RequestDataTooBig:
        spooled = _digest(request, "spooled", _spooled_digest(request))
        return Payload(lambda: spooled, _nothing)
    kind = _kind(request.content_type or "", body)
    return Payload(lambda: _digest(request, *_canonical(kind, body, ignore)), lambda: _kept(kind, body))


def multipart_payload(request: Any, ignore: Collection[str] = ()) -> Payload:
    """Return the payload of a multipart request by its parts (several SDKs send a new boundary with each retry).

    ``request`` offers POST and FILES as parsed by whoever parses for the view; each file is read once, in chunks,
    and left at its start.
    """
    parts = list(_parts(request.POST, request.FILES))
    digest = _digest(request, "multipart", canonical_multipart(parts, ignore))
    return Payload(lambda: digest, lambda: redactor_for(tuple(conf.REDACT)).multipart(parts))


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


def _kind(media_type: str, body: bytes) -> str:
    """Take a JSON text for JSON under the types that clients send unasked: ``curl -d``, ``fetch()`` with a string."""
    is_unasked = media_type in (FORM, "text/plain", "")
    if is_unasked and body.lstrip()[:1] in (b"{", b"[") and canonical_json(body) is not None:
        return "application/json"
    return media_type


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
    for name, value in _leaves("", fields) if nested else each_of(fields):
        if not isinstance(value, File):
            yield Part(name, text=str(value))
        elif nested:
            yield _file_part(name, value)
    yield from (_file_part(name, file) for name, file in each_of(files))


def each_of(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value of a ``MultiValueDict`` with its name."""
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
