"""Request → Operation, response ↔ Snapshot, refusal → problem details: the wire contract in one place."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.encoding import escape_uri_path

from django_idempotency.bodies import FORM, MULTIPART
from django_idempotency.conf import FORM_FIELD, conf
from django_idempotency.core.fingerprints import fingerprint
from django_idempotency.core.keys import parse_key
from django_idempotency.core.operations import Operation, Outcome, Snapshot
from django_idempotency.core.payloads import redactor_for
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
from django_idempotency.scopes import scope_of, told

BODY_OMITTED_HEADER = "Idempotent-Body-Omitted"

#: Refused or transient answers: nothing of them is stored, so that a retry runs again.
NOT_STORED = frozenset({401, 403, 408, 425, 429})

_STATUS: dict[type[IdempotencyError], int] = {
    KeyMissing: 400,
    KeyInvalid: 400,
    InProgress: 409,
    FingerprintMismatch: 422,
    StoreUnavailable: 503,
    OutcomeUnknown: 409,
    ResultExpired: 409,
}
_RETRY: dict[type[IdempotencyError], bool] = {
    InProgress: True,
    StoreUnavailable: True,
    FingerprintMismatch: False,
    OutcomeUnknown: False,
    ResultExpired: False,
}


@dataclass(frozen=True)
class Problem:
    """A refusal as it goes over the wire: status, members of the problem details (RFC 9457), and headers."""

    status: int
    members: dict[str, Any]
    headers: dict[str, str]
    retry_after: int | None


def header_names() -> list[str]:
    """Return the names under which a key may be sent, in order of preference."""
    return [conf.HEADER] if isinstance(conf.HEADER, str) else conf.HEADER


def raw_key(request: HttpRequest) -> str | None:
    """Return the value of the first key header that the request carries, or None."""
    for name in header_names():
        value: str | None = request.META.get(f"HTTP_{name.upper().replace('-', '_')}")
        if value is not None:
            return value
    return None


def is_form(request: HttpRequest) -> bool:
    """Tell whether a request is what a browser makes of an HTML form with ``method="post"``."""
    return request.method == "POST" and request.content_type in (FORM, MULTIPART)


def form_key(request: HttpRequest) -> str | None:
    """Return the key that ``{% idempotency_key %}`` put into a form, or None.

    It goes before the header: a browser may add one of its own, and then each click on the button has another.
    """
    return request.POST.get(FORM_FIELD) if is_form(request) else None


def new_form_key() -> str:
    """Return a key for a form: a UUID, in the quotes that ``KEY_FORMAT = "strict"`` asks for."""
    key = str(uuid.uuid4())
    return f'"{key}"' if conf.KEY_FORMAT == "strict" else key


def valid_key(raw: str) -> str:
    """Return the key that a raw value carries; raise KeyInvalid unless the format and KEY_VALIDATOR accept it."""
    key = parse_key(raw, strict=conf.KEY_FORMAT == "strict", max_length=conf.KEY_MAX_LENGTH)
    validator = conf.hook("KEY_VALIDATOR")
    if validator is None:
        return key
    try:
        accepted = validator(key)
    except (ValueError, ValidationError):
        accepted = False
    if accepted is False:
        raise KeyInvalid("The Idempotency-Key does not have the form that this API asks for.")
    return key


def wanted_key(raw: str | None, *, required: bool) -> str | None:
    """Return the valid key of a request, or None for one that needs none; raise KeyMissing or KeyInvalid."""
    if raw is not None:
        return valid_key(str(raw))
    if required:
        raise KeyMissing
    return None


def operation_for(
    request: HttpRequest,
    *,
    key: str,
    principal: str,
    payload: str,
    kept: Callable[[], bytes | None],
    retention: timedelta,
) -> Operation:
    """Return the operation of a request; ``payload`` tells one payload from another, method and path always count.

    ``kept`` gives what to keep of it, and is asked when a claim writes the record.
    """
    path = escape_uri_path(request.path)
    parts = (
        ("method", _bytes(request.method or "")),
        ("path", path.encode()),
        ("payload", _bytes(told(payload, "fingerprint"))),
    )
    return Operation(
        scope=scope_of(principal, request),
        key=key,
        fingerprint=fingerprint(*parts),
        retention=retention,
        method=(request.method or "")[:32],
        path=path + _kept_query(request),
        request_payload=kept,
    )


def is_stored(response: HttpResponseBase) -> bool:
    """Tell whether an answer is stored: what the view decided below 500, except 401, 403, 408, 425 and 429.

    STORE replaces this rule. What is not stored is rolled back.
    """
    store = conf.hook("STORE")
    if store is not None:
        return bool(store(response))
    return response.status_code < 500 and response.status_code not in NOT_STORED


def snapshot_of(response: HttpResponseBase, *, keep_body: bool) -> Snapshot:
    """Return the answer to store: allowed headers only, the body unless it is unwanted, streaming or too large."""
    allowed = _stored_headers(tuple(conf.RESPONSE_HEADERS))
    headers = tuple((name, value) for name, value in response.items() if name.lower() in allowed)
    body = response.content if keep_body and isinstance(response, HttpResponse) else None
    if body is not None and len(body) > conf.MAX_BODY_BYTES:
        body = None
    return Snapshot(response.status_code, headers, body)


def outcome_of(response: HttpResponseBase, *, stored: bool, keep_body: bool) -> Outcome[HttpResponseBase]:
    """Return what an execution came to that answered ``response``, finished and rendered."""
    return Outcome(response, snapshot_of(response, keep_body=keep_body) if stored else None)


def replay_of(snapshot: Snapshot, kind: type[HttpResponse] = HttpResponse) -> HttpResponse:
    """Return the stored answer: original status, body bytes and allowed headers, marked as a replay."""
    response = kind(snapshot.body or b"", status=snapshot.status)
    del response.headers["Content-Type"]
    for name, value in snapshot.headers:
        response.headers[name] = value
    response.headers[conf.REPLAY_HEADER] = "true"
    if snapshot.body is None:
        response.headers[BODY_OMITTED_HEADER] = "true"
    return response


def problem_of(error: IdempotencyError) -> Problem:
    """Return what a refusal says over HTTP, with the hints that SDKs obey."""
    status = _STATUS.get(type(error), 500)
    url = conf.DOCUMENTATION_URL
    members = {
        "type": url or "about:blank",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
    }
    retry = _RETRY.get(type(error))
    headers = {"Link": f'<{url}>; rel="describedby"'} if url else {}
    if retry is not None and conf.RETRY_HINTS:
        headers |= dict.fromkeys(("x-should-retry", "stripe-should-retry"), "true" if retry else "false")
    return Problem(status, members, headers, max(1, conf.RETRY_AFTER) if retry else None)


#: Headers that are of one answer only, and Set-Cookie: whatever RESPONSE_HEADERS says.
_NEVER_STORED = frozenset(
    {"set-cookie", "date", "content-length", "connection", "keep-alive"}
    | {"transfer-encoding", "upgrade", "trailer", "te"}
)

# A retry may come from another origin than the first request.
_CORS = "access-control-"


def is_never_stored(header: str) -> bool:
    """Tell whether a header belongs to one exchange and not to the answer, whatever RESPONSE_HEADERS says."""
    name = header.lower()
    return name in _NEVER_STORED or name.startswith(_CORS)


@lru_cache(maxsize=8)
def _stored_headers(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names if not is_never_stored(name))


def _kept_query(request: HttpRequest) -> str:
    query = request.META.get("QUERY_STRING", "")
    return f"?{redactor_for(tuple(conf.REDACT)).query(query)}" if query else ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
