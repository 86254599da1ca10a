"""The handler's stand-in: it claims, runs the handler inside the operation, and sees to one finished answer."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Empty, Request
from rest_framework.response import Response

from django_idempotency.bodies import Restart
from django_idempotency.calls import active
from django_idempotency.claims.registry import claims_for
from django_idempotency.conf import conf
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.early import EarlyTransaction
from django_idempotency.engine import execute
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.guards import FORM_WAIT_SECONDS
from django_idempotency.http import operation_for, outcome_of, replay_of, wanted_key
from django_idempotency.rest_framework.exceptions import IdempotencyAPIException, as_problem
from django_idempotency.rest_framework.hooks import IdempotencyHooks, TunedHooks
from django_idempotency.rest_framework.pages import is_for_a_page
from django_idempotency.rest_framework.payloads import payload_of

# The import of DRF's views loads DEFAULT_RENDERER_CLASSES, and our renderer comes here before that is done.
if TYPE_CHECKING:
    from rest_framework.views import APIView


class GuardedCall:
    """Stands in for one handler of one view instance: DRF's ``dispatch()`` calls it after all of ``initial()``."""

    def __init__(
        self, view: APIView, hooks: IdempotencyHooks, handler: Any, using: str, *, atomic_requests: bool
    ) -> None:
        self.view = view
        self.hooks = hooks
        self.handler = handler
        self.using = using
        self.atomic_requests = atomic_requests
        self.early: EarlyTransaction | None = None

    @contextmanager
    def installed(self, request: HttpRequest) -> Iterator[None]:
        """Take the handler's place; where ATOMIC_REQUESTS is on, give what runs beside it a transaction again."""
        setattr(self.view, (request.method or "").lower(), self)
        if self.atomic_requests:
            self.view.initial = self._initial  # type: ignore[method-assign]
            self.isolate_errors(self.view)
        try:
            yield
        finally:
            self._close_early()

    def isolate_errors(self, view: APIView) -> None:
        """Run ``handle_exception()`` in a transaction of its own under ATOMIC_REQUESTS.

        DRF's ``set_rollback()`` then marks that small one, never the operation's or a test's outer one.
        """
        if self.atomic_requests:
            isolated = _Atomic(type(view).handle_exception.__get__(view), self.using)
            view.handle_exception = isolated  # type: ignore[method-assign]

    def initial(self, view: APIView, request: Request, *args: Any, **kwargs: Any) -> None:
        """Run the view's own ``initial()``."""
        type(view).initial(view, request, *args, **kwargs)

    def _initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Open the transaction for ``initial()``, and leave it open for the handler where the claim can join it."""
        self.early = EarlyTransaction(self.using)
        try:
            self.initial(self.view, request, *args, **kwargs)
        except BaseException:
            self.early.__exit__(*sys.exc_info())
            raise
        if not claims_for(self.using).joins():
            self.early.close()

    def _close_early(self) -> None:
        if self.early is not None:
            self.early.close()

    def __call__(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with active(request._request):
            return self._answer(request, args, kwargs)

    def _answer(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponseBase:
        try:
            key = self._key(request)
            if key is None:
                return self._unguarded(request, *args, **kwargs)
            operation = self._operation(request, key)
            work = HandlerWork(self, request, args, kwargs)
            early = self.early if self.early and self.early.is_open else None
            wait = self._wait_seconds(request)
            result = execute(operation, work, using=self.using, wait=wait, early=early)
        except IdempotencyError as error:
            self._close_early()
            return problem_response(self.view, error)
        if isinstance(result, Snapshot):
            self.hooks.authorize_idempotent_replay(request, *args, **kwargs)
        answer = replay_of(result) if isinstance(result, Snapshot) else result.answer
        self.view.finalize_response = _already_final  # type: ignore[method-assign,assignment]
        return answer

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

    def _unguarded(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        if not self.atomic_requests:
            return self.handler(request, *args, **kwargs)
        early = self.early if self.early and self.early.is_open else None
        with early or transaction.atomic(using=self.using):
            return self.handler(request, *args, **kwargs)


def _kept(request: Request) -> Callable[[], bytes | None]:
    """Return what gives the payload to keep; its body is read now, before the handler can."""
    if not conf.STORE_REQUEST_PAYLOAD:
        return lambda: None
    payload = payload_of(request)
    return lambda: payload.kept


class _Atomic:
    """A method in a transaction; what ``transaction.atomic`` makes of one takes longer to make than to call."""

    def __init__(self, method: Callable[..., Any], using: str) -> None:
        self.method = method
        self.using = using

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic(using=self.using):
            return self.method(*args, **kwargs)


class _Start:
    """View, request and input as they were before the first run; a replay has none."""

    def __init__(self, view: APIView, request: Request) -> None:
        self.view = copy.copy(view)
        self.request = dict(request.__dict__)
        self.restart = Restart(request._request)


class HandlerWork:
    """One request's handler as work for ``execute()``: run, answer what it raised, run again on fresh objects."""

    def __init__(
        self, call: GuardedCall, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.call = call
        self.args = args
        self.kwargs = kwargs
        self.view, self.request, self.handler = call.view, request, call.handler
        self.start: _Start | None = None

    def run(self, claim: Claim) -> Outcome[HttpResponseBase]:
        if self.start is None:
            self.start = _Start(self.view, self.request)
        else:
            self._start_afresh(self.start)
        if self.call.early is not None and self.call.early.is_undone:
            self.call.initial(self.view, self.request, *self.args, **self.kwargs)
        self.request.idempotency = self.request._request.idempotency = claim  # type: ignore[attr-defined]
        return self._outcome(self.handler(self.request, *self.args, **self.kwargs))

    def refuse(self, claim: Claim, error: Exception) -> Outcome[HttpResponseBase]:
        """Answer as the view's exception handling does; the refusal of an operation inside this one is never stored."""
        if isinstance(error, IdempotencyError):
            outcome = self._outcome(problem_response(self.view, error, self.call.view))
            return Outcome(outcome.answer, None)
        return self._outcome(handled(self.view, error, self.call.view))

    def _outcome(self, response: HttpResponseBase) -> Outcome[HttpResponseBase]:
        """Finish and render the answer inside the transaction, so that its very bytes are stored with the effects."""
        finalize: Callable[..., HttpResponseBase] = self.view.finalize_response
        final = finalize(self.request, response, *self.args, **self.kwargs)
        if callable(render := getattr(final, "render", None)):
            final = render()
        hooks = self._hooks()
        stored = hooks.should_store_response(final)
        return outcome_of(
            final, stored=stored, keep_body=conf.prefer(hooks.idempotency_store_body, "STORE_BODY")
        )

    def _hooks(self) -> IdempotencyHooks:
        """Return the hooks of the view that ran: a hook may look at what the handler left on its view."""
        hooks, view = self.call.hooks, self.view
        if isinstance(hooks, TunedHooks) and isinstance(view, IdempotencyHooks):
            return TunedHooks(hooks.options, view)
        return view if isinstance(view, IdempotencyHooks) else hooks

    def _start_afresh(self, start: _Start) -> None:
        """Replace view, request and input by what they were before the first run: handlers change all three."""
        original = self.call.view
        self.view = copy.copy(start.view)
        for name, value in vars(start.view).items():
            setattr(self.view, name, _rebound(value, original, self.view))
        self.call.isolate_errors(self.view)
        self.handler = _rebound(self.call.handler, original, self.view)
        start.restart.restore()
        self.request = _unread(type(self.request), start.request, self.view)
        self.view.request = self.request


def problem_response(view: APIView, error: IdempotencyError, outer: APIView | None = None) -> Response:
    """Return what the view's exception handling makes of a refusal, with hints and links added."""
    exception = IdempotencyAPIException(error)
    return as_problem(exception, handled(view, exception, outer or view), view.request)


def handled(view: APIView, error: Exception, outer: APIView) -> Response:
    """Return ``view.handle_exception(error)``; what it raises again passes ``outer``'s ``dispatch()`` unhandled."""
    try:
        return view.handle_exception(error)
    except Exception:
        outer.handle_exception = _reraise  # type: ignore[method-assign,assignment]
        raise


def _already_final(
    request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    return response


def _reraise(error: Exception) -> NoReturn:
    raise error


def _rebound(value: Any, old: object, new: object) -> Any:
    if isinstance(value, partial):  # what method_decorator hands to its decorators
        return partial(_rebound(value.func, old, new), *value.args, **value.keywords)
    bound = isinstance(value, MethodType) and value.__self__ is old
    return MethodType(value.__func__, new) if bound else value


def _unread(kind: type[Request], state: dict[str, Any], view: APIView) -> Request:
    """Return a request as ``state`` has it, with nothing of its body parsed yet."""
    request = kind.__new__(kind)
    request.__dict__.update(state, _data=Empty, _files=Empty, _full_data=Empty, _stream=Empty)
    request.parser_context = {**state["parser_context"], "request": request, "view": view}
    return request
