"""The payload of a DRF request, read once and left readable for the view's parsers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request

from django_idempotency.bodies import MULTIPART, Payload, multipart_payload, read_payload

_MEMO = "_idempotency_payload"


def payload_of(request: Request, ignore: Collection[str] = ()) -> Payload:
    """Return the payload of ``request``; multipart is taken as the view's own parser reads it, for any method.

    Raises what that parser raises for a malformed body (ParseError), as reading ``request.data`` would.
    """
    payload: Payload | None = request.__dict__.get(_MEMO)
    if payload is None:
        payload = _read(request, ignore)
        request.__dict__[_MEMO] = payload
    return payload


def _read(request: Request, ignore: Collection[str]) -> Payload:
    if request._request.content_type == MULTIPART and _parses_parts(request):
        return multipart_payload(request, ignore)
    return read_payload(request._request, ignore)


def _parses_parts(request: Any) -> bool:
    """Tell whether the view's parser makes parts of multipart: one for ``*/*`` may take it for a row of bytes."""
    return isinstance(request.negotiator.select_parser(request, request.parsers), MultiPartParser)
