"""DRF views that have no mixin: guarded from inside, with the mixin's own code."""

from __future__ import annotations

from types import MethodType
from typing import Any

from django_idempotency.calls import Call, is_active
from django_idempotency.class_views import subclass_of
from django_idempotency.options import Options
from django_idempotency.rest_framework.guard import GuardedCall
from django_idempotency.rest_framework.hooks import IdempotencyHooks, TunedHooks, may_be_keyed
from django_idempotency.rest_framework.mixins import IdempotencyMixin


class RestFramework:
    """What decorator and middleware need to know of DRF; ``AppConfig.ready()`` hands it in."""

    def subclass(self, cls: type, options: Options) -> type:
        """Return ``cls`` with the mixin in front, and the options as its attributes and hooks."""
        bases = (cls,) if issubclass(cls, IdempotencyMixin) else (IdempotencyMixin, cls)
        return subclass_of(cls, bases, {"_idempotency_options": options})

    def guarded(self, call: Call, options: Options) -> Any:
        """Answer one call of a decorated handler (a method, an ``@action``, a function below ``@api_view``)."""
        request: Any = call.request
        view = request.parser_context["view"]
        hooks = TunedHooks(options, view if isinstance(view, IdempotencyHooks) else IdempotencyHooks())
        if is_active(request._request) or not may_be_keyed(hooks, request._request):
            return call()
        handler = call.function if call.owner is None else MethodType(call.function, call.owner)
        return GuardedCall(view, hooks, handler)(request, *call.args, **call.kwargs)
