"""Guarded operations in a drf-spectacular schema; found by itself when ``drf_spectacular`` is in INSTALLED_APPS.

What a client must know of a guarded operation is added to what drf-spectacular and ``@extend_schema`` say of it, and
replaces nothing of theirs: the key's header, the refusals, the headers of a replay, and for how long a key counts
(the expiry policy that draft-ietf-httpapi-idempotency-key-header-07 wants published).
"""

from __future__ import annotations

import inspect
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from django_idempotency.callbacks import guarded_inside, is_marked, is_site_door
from django_idempotency.class_views import handler_options
from django_idempotency.conf import conf
from django_idempotency.http import BODY_OMITTED_HEADER, header_names
from django_idempotency.middleware import is_under_paths
from django_idempotency.options import EXEMPT, Options, options_of
from django_idempotency.rest_framework.hooks import IdempotencyHooks, TunedHooks, finds_keys
from django_idempotency.rest_framework.mixins import IdempotencyMixin

_BARE = r"^[!#-+\-.-~][!-+\-.-~]*$"
_STRICT = r'^"([!#-\[\]-~]|\\["\\])([ !#-\[\]-~]|\\["\\])*"$'

_OWN_DOC = inspect.getdoc(IdempotencyMixin)

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Why a request was refused for its idempotency key (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, and what to do next."},
        "code": {"type": "string", "description": "Stable, for programs."},
    },
    "required": ["type", "title", "status", "detail", "code"],
}
RETRY_AFTER = {
    "description": "Seconds to wait before the retry.",
    "schema": {"type": "integer", "minimum": 1},
}
REFUSALS = {
    "400": "The idempotency key is malformed (`invalid-key`), or missing where it is required (`missing-key`).",
    "409": "The first request with this key is still running (`conflict`): retry after `Retry-After`.",
    "422": "The key was used for a different request (`fingerprint-mismatch`): do not retry.",
    "503": "The record store cannot be used (`store-unavailable`): retry with the same key.",
}


class IdempotentViews(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Describes the guarded operations of every view, on top of what any other extension makes of it."""

    target_class = "rest_framework.views.APIView"
    match_subclasses = True
    priority = 1000

    def view_replacement(self) -> Any:
        callback = self.target_callback
        view, options = self._replaced_by_others(), options_of(callback)
        site = any(map(is_site_door, settings.MIDDLEWARE)) and not is_marked(callback)
        on_site = site and guarded_inside(callback, Options()) is not None
        return _described(view, options, on_site) if on_site or options or _is_guarded(view) else view

    def _replaced_by_others(self) -> type[Any]:
        others = [each for each in self._registry if each is not type(self) and each._matches(self.target)]
        if not others:
            return self.target
        first = max(others, key=lambda each: each.priority)
        return first(self.target_callback).view_replacement()


def _is_guarded(view: type[Any]) -> bool:
    """Tell whether a class says itself that handlers of it are guarded; all others are left to drf-spectacular."""
    names = (value for cls in view.__mro__ for value in vars(cls).values())
    return issubclass(view, IdempotencyHooks) or any(handler_options(value) for value in names)


def _described(view: type[Any], options: Options | None, on_site: bool) -> type[Any]:
    """Return a view of the same name whose schema, wherever it was set, adds what is true of guarded operations."""

    class Described(view):  # type: ignore[misc]
        __doc__ = view.__doc__

        @property
        def schema(self) -> Any:
            own = vars(self).get("_schema_of_method")
            return GuardedSchema(super().schema if own is None else own, self, options, on_site)

        @schema.setter
        def schema(self, schema: Any) -> None:
            self._schema_of_method = schema
            if schema is not None:
                schema.view = self

    Described.__name__, Described.__qualname__ = view.__name__, view.__qualname__
    Described.__module__ = view.__module__
    return Described


class GuardedSchema(AutoSchema):
    """Stands before a view's own schema and completes the operation that it gives."""

    def __init__(self, inner: Any, view: Any, options: Options | None, on_site: bool) -> None:
        super().__init__()
        self.inner = inner
        self.guarded = view
        self.options = options
        self.on_site = on_site

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> dict[str, Any] | None:
        operation: dict[str, Any] | None
        operation = self.inner.get_operation(path, path_regex, path_prefix, method, registry)
        if operation and operation.get("description") == _OWN_DOC:  # of a view that has none
            del operation["description"]
        hooks = self._hooks(path, method)
        if operation and hooks and method.upper() in conf.prefer(hooks.idempotency_methods, "METHODS"):
            complete(operation, hooks, registry)
        return operation

    def _hooks(self, path: str, method: str) -> IdempotencyHooks | None:
        """Return what counts for an operation, or None if no door guards it."""
        view = self.guarded
        handler = getattr(view, getattr(view, "action", None) or method.lower(), None)
        if getattr(handler, EXEMPT, False):
            return None
        base = view if isinstance(view, IdempotencyHooks) else IdempotencyHooks()
        options = handler_options(handler) or self.options or getattr(view, "_idempotency_options", None)
        if options is not None:
            return TunedHooks(options, base)
        return base if base is view or (self.on_site and is_under_paths(path)) else None


def complete(operation: dict[str, Any], view: IdempotencyHooks, registry: ComponentRegistry) -> None:
    """Add to an operation of a schema what is true of every request to it that carries a key."""
    described = [operation["description"]] if operation.get("description") else []
    operation["description"] = "\n\n".join([*described, _policy(view)])
    if not finds_keys(view):
        _add_parameter(operation.setdefault("parameters", []), view)
    responses = operation.setdefault("responses", {})
    for code, response in responses.items():
        if str(code)[0] in "234d":  # d: default
            response["headers"] = {**_replay_headers(view), **response.get("headers", {})}
    content = _problem_content(registry)
    for code, description in REFUSALS.items():
        _add_refusal(responses, code, description, content)


def _policy(view: IdempotencyHooks) -> str:
    retention = conf.retention(view.idempotency_retention)
    seconds = (
        f"{retention.total_seconds():g}" if retention.microseconds else str(int(retention.total_seconds()))
    )
    policy = (
        f"Requests with the same idempotency key take effect once: a retry gets the first answer, marked by "
        f"`{conf.REPLAY_HEADER}: true`. The key counts for {seconds} seconds after the first request."
    )
    return f"{policy} See <{conf.DOCUMENTATION_URL}>." if conf.DOCUMENTATION_URL else policy


def _add_parameter(parameters: list[dict[str, Any]], view: IdempotencyHooks) -> None:
    names = header_names()
    taken = {parameter["name"].lower() for parameter in parameters if parameter.get("in") == "header"}
    if taken.isdisjoint(name.lower() for name in names):
        strict = conf.KEY_FORMAT == "strict"
        schema = {
            "type": "string",
            "minLength": 3 if strict else 1,
            "maxLength": conf.KEY_MAX_LENGTH + (2 if strict else 0),
            "pattern": _STRICT if strict else _BARE,
        }
        parameters.append(
            {
                "in": "header",
                "name": names[0],
                "required": bool(conf.prefer(view.idempotency_required, "REQUIRED")),
                "description": "One unique value per logical action, a UUID for example; the same in every retry.",
                "schema": schema,
            }
        )


def _replay_headers(view: IdempotencyHooks) -> dict[str, Any]:
    told = {conf.REPLAY_HEADER: "`true` when this is the first answer once more."}
    if not conf.prefer(view.idempotency_store_body, "STORE_BODY"):
        told[BODY_OMITTED_HEADER] = "`true` when the first answer's body was not kept."
    schema = {"type": "string", "enum": ["true"]}
    return {name: {"description": description, "schema": schema} for name, description in told.items()}


def _problem_content(registry: ComponentRegistry) -> dict[str, Any]:
    """Return the body of a refusal; what an exception handler of the project makes of it is not known here."""
    if api_settings.EXCEPTION_HANDLER is not exception_handler:
        return {}
    name = "IdempotencyProblem"
    problem = ResolvedComponent(name, ResolvedComponent.SCHEMA, PROBLEM, name)  # type: ignore[no-untyped-call]
    registry.register_on_missing(problem)
    media_type = "application/problem+json" if conf.ERROR_FORMAT == "problem" else "application/json"
    return {media_type: {"schema": problem.ref}}


def _add_refusal(responses: dict[str, Any], code: str, description: str, content: dict[str, Any]) -> None:
    """Add a refusal; where the view itself answers with this status, beside its own content."""
    response = responses.setdefault(code, {"description": description})
    if content:
        response["content"] = {**content, **response.get("content", {})}
    if code in ("409", "503"):
        response["headers"] = {"Retry-After": RETRY_AFTER, **response.get("headers", {})}
