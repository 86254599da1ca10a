"""The handler's stand-in: it claims, has the handler run inside the operation, and gives one finished answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, cast

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from django_idempotency.calls import Active
from django_idempotency.claims.registry import claims_for, record_alias
from django_idempotency.conf import conf
from django_idempotency.core.operations import Operation, Outcome, Snapshot
from django_idempotency.early import EarlyTransaction
from django_idempotency.engine import execute
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.guards import FORM_WAIT_SECONDS
from django_idempotency.http import operation_for, replay_of, wanted_key
from django_idempotency.rest_framework.hooks import IdempotencyHooks
from django_idempotency.rest_framework.pages import is_for_a_page
from django_idempotency.rest_framework.payloads import payload_of
from django_idempotency.rest_framework.work import Caller, HandlerWork, problem_response, reraise

# The import of DRF's views loads DEFAULT_RENDERER_CLASSES, and our renderer comes here before that is done.
if TYPE_CHECKING:
    from rest_framework.views import APIView


class GuardedCall:
    """Stands in for one handler of one view instance: DRF's ``dispatch()`` calls it after all of ``initial()``."""

    def __init__(
        self, view: APIView, hooks: IdempotencyHooks, handler: Any, early: EarlyTransaction | None = None
    ) -> None:
        self.view = view
        self.hooks = hooks
        self.handler = handler
        self.using = record_alias()
        self.early = early
        self.caller: Caller | None = None

    def install(self, request: HttpRequest) -> None:
        """Take the handler's place; where ATOMIC_REQUESTS is on, see to it that ``initial()`` can run again."""
        setattr(self.view, (request.method or "").lower(), _StandIn(self.handler, self))
        if self.early is not None:
            self.view.initial = self._initial  # type: ignore[method-assign]

    def isolate_errors(self, view: APIView) -> None:
        """Run ``handle_exception()`` in a transaction of its own under ATOMIC_REQUESTS.

        DRF's ``set_rollback()`` then marks that small one, never the operation's or a test's outer one. While the
        request's own transaction is open, it marks that, as ever.
        """
        if connections[self.using].settings_dict["ATOMIC_REQUESTS"]:
            isolated = _Atomic(type(view).handle_exception.__get__(view), self)
            view.handle_exception = isolated  # type: ignore[method-assign]

    def initial(self, view: APIView, request: Request, *args: Any, **kwargs: Any) -> None:
        """Run the view's own ``initial()``."""
        type(view).initial(view, request, *args, **kwargs)

    def _initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Called again, by the handler perhaps, it must be the view's own.
        vars(self.view).pop("initial", None)
        self.caller = Caller(request)
        early, claims = self.open_early(), claims_for(self.using)
        if early is not None and claims.joins() and claims.has_begun():
            # The handler's run may be undone with it, and then only initial() is called again, never dispatch().
            early.renew()
        self.initial(self.view, request, *args, **kwargs)

    def open_early(self) -> EarlyTransaction | None:
        """Return the request's transaction while nobody has ended it or taken it for the operation's."""
        return self.early if self.early and self.early.is_open else None

    def _early_to_join(self) -> EarlyTransaction | None:
        """Return the request's transaction if the claim can join it; else it is committed before the claim."""
        early = self.open_early()
        if early is None or claims_for(self.using).joins():
            return early
        early.end_for_claim()
        return None

    def __call__(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with Active(request._request):
            return self._answer(request, args, kwargs)

    def _answer(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponseBase:
        try:
            key = self._key(request)
            if key is None:
                return cast(HttpResponseBase, self.handler(request, *args, **kwargs))
            operation = self._operation(request, key)
            work = HandlerWork(self, operation, request, args, kwargs)
            result = self._executed(work, self._wait_seconds(request))
            if isinstance(result, Snapshot):
                self.hooks.authorize_idempotent_replay(request, *args, **kwargs)
        except IdempotencyError as error:
            return problem_response(self.view, error)
        answer = replay_of(result, Replay) if isinstance(result, Snapshot) else result.answer
        self.view.finalize_response = _already_final  # type: ignore[method-assign,assignment]
        return answer

    def _executed(self, work: HandlerWork, wait: float) -> Outcome[HttpResponseBase] | Snapshot:
        early = self._early_to_join()
        self.isolate_errors(self.view)
        try:
            return execute(work.operation, work, using=self.using, wait=wait, early=early)
        except IdempotencyError:
            raise
        except Exception:
            # HandlerWork has answered what the view raised: this is an on_commit() hook's, or of an outer block.
            self.view.handle_exception = reraise  # type: ignore[method-assign,assignment]
            raise

    def _key(self, request: Request) -> str | None:
        required = conf.prefer(self.hooks.idempotency_required, "REQUIRED")
        return wanted_key(self.hooks.get_idempotency_key(request), required=required)

    def _wait_seconds(self, request: Request) -> float:
        """Return how long a duplicate waits: people who click twice wait for the page, programs as they are told."""
        own = self.hooks.idempotency_wait_seconds
        seconds: float = conf.prefer(own, "WAIT_SECONDS")
        return max(seconds, FORM_WAIT_SECONDS) if own is None and is_for_a_page(request) else seconds

    def _operation(self, request: Request, key: str) -> Operation:
        return operation_for(
            request._request,
            key=key,
            principal=self.hooks.get_idempotency_scope(request),
            payload=self.hooks.get_idempotency_fingerprint(request),
            kept=_kept(request),
            retention=conf.retention(self.hooks.idempotency_retention),
        )


def _kept(request: Request) -> Callable[[], bytes | None]:
    """Return what gives the payload to keep; its body is read now, before the handler can."""
    if not conf.STORE_REQUEST_PAYLOAD:
        return lambda: None
    payload = payload_of(request)
    return lambda: payload.kept


class _StandIn:
    """Answers in a handler's place, and looks like it: permissions read what decorators left on the handler."""

    def __init__(self, handler: Callable[..., Any], answer: GuardedCall) -> None:
        update_wrapper(self, handler)
        self.__answer = answer

    def __call__(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self.__answer(request, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)


class Replay(HttpResponse):
    """The stored answer, with the ``data`` that a project's ``dispatch()`` may look for on every answer."""

    @cached_property
    def data(self) -> Any:
        """Return what the body says as JSON; None where it is no JSON, or is not there."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


class _Atomic:
    """A method in a transaction of its own; ``transaction.atomic`` takes longer to make one than to call it."""

    def __init__(self, method: Callable[..., Any], call: GuardedCall) -> None:
        self.method = method
        self.call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.call.open_early() is not None:
            return self.method(*args, **kwargs)
        with transaction.atomic(using=self.call.using):
            return self.method(*args, **kwargs)


def _already_final(
    request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    return response
