"""The scope of a key: who sent it, and to which route."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.http import HttpRequest
from django.utils.encoding import escape_uri_path

ANONYMOUS = "anonymous"
_PLAIN = {bytes, bool, int, float, UUID, type(None)}


def told(value: Any, what: str) -> str:
    """Return what a project's callable told of a request; ImproperlyConfigured if that tells nothing apart."""
    if isinstance(value, str) and value:
        return value
    kind = "an empty str" if value == "" else type(value).__name__
    raise ImproperlyConfigured(
        f"The {what} of a request must be a str, and the project's callable returned {kind}."
    )


def scope_of(principal: str, request: HttpRequest) -> str:
    """Return ``<principal> <route>``, so that one caller's key on one route means nothing to any other.

    The principal is percent-encoded, hence the first space divides the two.
    """
    return f"{quote(told(principal, 'scope'), safe=':@.+~-_', errors='surrogatepass')} {route_of(request)}"


def route_of(request: HttpRequest) -> str:
    """Return the URL pattern that matched (``api/orders/<int:pk>/pay/``), or the path where no URL was resolved."""
    match = request.resolver_match
    return match.route if match is not None and match.route else escape_uri_path(request.path)


def user_principal(user: Any, request: HttpRequest) -> str | None:
    """Return ``user:<pk>`` of an authenticated user, or None for anybody else.

    One that is no AUTH_USER_MODEL goes by the name of its class: a device and a person may have the same number. A
    user without a primary key (a service account made from a token) is told apart by the Authorization header;
    with neither there is nothing to keep callers apart by, so that is an ImproperlyConfigured, not a shared scope.
    """
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    if getattr(user, "pk", None) is not None:
        return f"{_kind(user)}:{user.pk}"
    digest = authorization_principal(request)
    if digest is None:
        raise ImproperlyConfigured(
            "The authenticated user has no primary key and the request no Authorization header: "
            'set IDEMPOTENCY["SCOPE"] to a callable that returns what tells your callers apart.'
        )
    return digest


def _kind(user: Any) -> str:
    if not isinstance(user, Model):
        cls = user.__class__
        kind: str = cls.__qualname__.lower()
        return f"{cls.__module__}.{kind}" if kind == "user" else kind  # "user" is AUTH_USER_MODEL's
    # A proxy is another name for the same rows.
    label = (user._meta.concrete_model or user)._meta.label
    return "user" if label == settings.AUTH_USER_MODEL else label.lower()


def found_principal(found: Any, request: HttpRequest) -> str:
    """Return who sent a request, by what an authentication found that is no user.

    A row counts by its primary key; a token or claims are digested, since they may be secret. True says nothing, and
    anything else may look alike for two callers, or different in two processes: then the Authorization header tells,
    and without one it is an ImproperlyConfigured.
    """
    if isinstance(found, Model) and found.pk is not None:
        return f"{found._meta.label_lower}:{found.pk}"
    with suppress(TypeError):
        if not isinstance(found, bool):
            return f"auth:{hashlib.sha256(repr(_plain(found)).encode()).hexdigest()[:32]}"
    digest = authorization_principal(request)
    if digest is None:
        raise ImproperlyConfigured(
            f"The authentication found a {type(found).__name__} and the request has no Authorization header: give "
            '@idempotent(scope=…) or IDEMPOTENCY["SCOPE"] a callable that returns what tells your callers apart.'
        )
    return digest


def _plain(value: Any) -> Any:
    """Return a value in types whose text tells all of it, the same in every process; TypeError for any other.

    A subclass may show less than it holds, a set has no order, and two objects may look alike.
    """
    if isinstance(value, dict):
        return {_plain(name): _plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(_plain, value)]
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) in _PLAIN:
        return value
    raise TypeError(f"{type(value).__name__} does not tell who it is")


def authorization_principal(request: HttpRequest) -> str | None:
    """Return ``authorization:<digest>`` of the Authorization header, or None without one."""
    header = request.META.get("HTTP_AUTHORIZATION")
    return f"authorization:{hashlib.sha256(header.encode()).hexdigest()[:32]}" if header else None
