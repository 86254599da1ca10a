"""One handler as work for the engine: run inside the operation, answered by the view's own means, run again afresh."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Empty, Request
from rest_framework.response import Response

from django_idempotency.conf import conf
from django_idempotency.core.operations import Claim, Operation, Outcome
from django_idempotency.exceptions import IdempotencyError, StoreUnavailable
from django_idempotency.http import outcome_of
from django_idempotency.rest_framework.exceptions import IdempotencyAPIException, as_problem
from django_idempotency.rest_framework.hooks import IdempotencyHooks, TunedHooks
from django_idempotency.restarts import Restart, let_go, own_containers
from django_idempotency.scopes import scope_of

# The import of DRF's views loads DEFAULT_RENDERER_CLASSES, and our renderer comes here before that is done.
if TYPE_CHECKING:
    from rest_framework.views import APIView

    from django_idempotency.rest_framework.guard import GuardedCall


#: On DRF's request and on Django's below it, where authentication puts the user too.
_OF_THE_CALLER = ("_user", "_auth", "_authenticator", "user", "auth")

_ANOTHER_CALLER = (
    "The transaction was undone, and the caller with it, so nothing was kept: retry with the same key."
)


class _Start:
    """View, request and input as they were before the first run; a replay has none."""

    def __init__(self, view: APIView, request: Request) -> None:
        self.view = own_containers(view.__dict__)
        self.request = dict(request.__dict__)
        self.restart = Restart(request._request)


class Caller:
    """What a request says of its caller before authentication, which need not have happened yet."""

    def __init__(self, request: Request) -> None:
        self._known = [_told_by(each) for each in (request, request._request)]

    def restore(self, request: Request) -> None:
        """Let authentication find the caller anew."""
        for each, known in zip((request, request._request), self._known, strict=True):
            for name in _OF_THE_CALLER:
                each.__dict__.pop(name, None)
            each.__dict__.update(known)


def _told_by(request: Request | HttpRequest) -> dict[str, Any]:
    return {name: request.__dict__[name] for name in _OF_THE_CALLER if name in request.__dict__}


class HandlerWork:
    """One request's handler as work for ``execute()``: run, answer what it raised, run again on fresh objects."""

    def __init__(
        self,
        call: GuardedCall,
        operation: Operation,
        request: Request,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.call = call
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.view, self.request, self.handler = call.view, request, call.handler
        self.start: _Start | None = None
        self.answer: HttpResponseBase | None = None

    def run(self, claim: Claim) -> Outcome[HttpResponseBase]:
        if self.start is None:
            self.start = _Start(self.view, self.request)
        else:
            self._start_afresh(self.start)
        early, caller = self.call.early, self.call.caller
        if early is not None and early.is_undone and caller is not None:
            self._initial_again(caller)
        self.request.idempotency = self.request._request.idempotency = claim  # type: ignore[attr-defined]
        return self._outcome(self.handler(self.request, *self.args, **self.kwargs))

    def refuse(self, claim: Claim, error: Exception) -> Outcome[HttpResponseBase]:
        """Answer as the view's exception handling does; the refusal of an operation inside this one is never stored."""
        if isinstance(error, IdempotencyError):
            outcome = self._outcome(problem_response(self.view, error, self.call.view))
            return Outcome(outcome.answer, None)
        return self._outcome(handled(self.view, error, self.call.view))

    def _initial_again(self, caller: Caller) -> None:
        """Run ``initial()`` again, authentication too: a user whom it had made is gone, and another one is made.

        The record counts for the caller of the first run. Under any other one the retry would not find it.
        """
        caller.restore(self.request)
        self.call.initial(self.view, self.request, *self.args, **self.kwargs)
        principal = self._hooks().get_idempotency_scope(self.request)
        if scope_of(principal, self.request._request) != self.operation.scope:
            raise StoreUnavailable(_ANOTHER_CALLER)

    def _outcome(self, response: HttpResponseBase) -> Outcome[HttpResponseBase]:
        """Finish and render the answer inside the transaction, so that its very bytes are stored with the effects."""
        finalize: Callable[..., HttpResponseBase] = self.view.finalize_response
        final = finalize(self.request, response, *self.args, **self.kwargs)
        if callable(render := getattr(final, "render", None)):
            final = render()
        self.answer = final
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
        let_go(self.answer)
        self.view = copy.copy(original)
        self.view.__dict__.clear()
        for name, value in own_containers(start.view).items():
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
        outer.handle_exception = reraise  # type: ignore[method-assign,assignment]
        raise


def reraise(error: Exception) -> NoReturn:
    """Take the place of ``handle_exception()`` for what no answer may be made of."""
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
