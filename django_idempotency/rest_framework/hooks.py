"""What a view can say for itself: attributes and hooks, and how a decorator's options go over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from django_idempotency.conf import conf
from django_idempotency.http import is_stored, raw_key
from django_idempotency.options import Options
from django_idempotency.rest_framework.pages import may_come_from_a_page, page_key
from django_idempotency.rest_framework.payloads import payload_of
from django_idempotency.scopes import ANONYMOUS, authorization_principal, found_principal, user_principal


class IdempotencyHooks:
    """The attributes and hooks of ``IdempotencyMixin``; None means the setting of the same name decides."""

    idempotency_required: bool | None = None
    idempotency_methods: Sequence[str] | None = None
    idempotency_retention: float | timedelta | None = None
    idempotency_wait_seconds: float | None = None
    idempotency_ignore_fields: Sequence[str] | None = None
    idempotency_store_body: bool | None = None

    def get_idempotency_key(self, request: Request) -> str | None:
        """Return the raw key that a request carries, or None; override it to read a field of the body."""
        return page_key(request) or raw_key(request._request)

    def get_idempotency_scope(self, request: Request) -> str:
        """Return the principal in whose name the key counts; the route is always added."""
        scope = conf.hook("SCOPE")
        if scope is not None:
            principal: str = scope(request)
            return principal
        own = request._request
        if user := user_principal(request.user, own):
            return user
        # An application's token, for example, which stands for no user; True says nothing.
        if request.auth is not None and not isinstance(request.auth, bool):
            return found_principal(request.auth, own)
        return authorization_principal(own) or ANONYMOUS

    def get_idempotency_fingerprint(self, request: Request) -> str:
        """Return what tells one payload from another; method and path always count beside it."""
        fingerprint = conf.hook("FINGERPRINT")
        if fingerprint is not None:
            told: str = fingerprint(request)
            return told
        return payload_of(request, conf.prefer(self.idempotency_ignore_fields, "FINGERPRINT_IGNORE")).digest

    def should_store_response(self, response: HttpResponseBase) -> bool:
        """Tell whether an answer is stored and its effects kept; else both go, and a retry runs again."""
        return is_stored(response)

    def authorize_idempotent_replay(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check object permissions again before a replay: raise PermissionDenied or Http404 to withhold the answer.

        ``initial()`` has run; override this where the handler itself calls ``check_object_permissions()``.
        """


class TunedHooks(IdempotencyHooks):
    """A view's hooks, with what ``@idempotent`` says for one handler over them."""

    def __init__(self, options: Options, base: IdempotencyHooks) -> None:
        self.options, self.base = options, base
        for name in ("required", "methods", "retention", "wait_seconds", "ignore_fields", "store_body"):
            attribute, own = f"idempotency_{name}", getattr(options, name)
            setattr(self, attribute, getattr(base, attribute) if own is None else own)

    def get_idempotency_key(self, request: Request) -> str | None:
        return (self.options.key or self.base.get_idempotency_key)(request)

    def get_idempotency_scope(self, request: Request) -> str:
        return (self.options.scope or self.base.get_idempotency_scope)(request)

    def get_idempotency_fingerprint(self, request: Request) -> str:
        if self.options.fingerprint:
            return self.options.fingerprint(request)
        if _overrides(self.base, "fingerprint"):
            return self.base.get_idempotency_fingerprint(request)
        return super().get_idempotency_fingerprint(request)

    def should_store_response(self, response: HttpResponseBase) -> bool:
        return bool((self.options.store or self.base.should_store_response)(response))

    def authorize_idempotent_replay(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.base.authorize_idempotent_replay(request, *args, **kwargs)


def may_be_keyed(hooks: IdempotencyHooks, request: HttpRequest) -> bool:
    """Tell whether the handler is to be guarded; where an overridden hook finds keys, only it can tell."""
    if request.method not in conf.prefer(hooks.idempotency_methods, "METHODS"):
        return False
    if conf.prefer(hooks.idempotency_required, "REQUIRED") or raw_key(request) is not None:
        return True
    return may_come_from_a_page(request) or finds_keys(hooks)


def finds_keys(hooks: IdempotencyHooks) -> bool:
    """Tell whether a key may stand elsewhere than in its header."""
    if isinstance(hooks, TunedHooks):
        return hooks.options.key is not None or finds_keys(hooks.base)
    return _overrides(hooks, "key")


def _overrides(hooks: IdempotencyHooks, what: str) -> bool:
    name = f"get_idempotency_{what}"
    return getattr(type(hooks), name) is not getattr(IdempotencyHooks, name)
