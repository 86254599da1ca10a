"""The handler's stand-in: it claims, runs the handler inside the operation, and sees to one finished answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Empty, Request
from rest_framework.response import Response

from django_idempotency.bodies import rewind
from django_idempotency.conf import conf
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.exceptions import IdempotencyError, KeyMissing
from django_idempotency.execution import execute
from django_idempotency.http import operation_for, replay_of, retention_of, snapshot_of, valid_key
from django_idempotency.rest_framework.exceptions import IdempotencyAPIException, as_problem
from django_idempotency.rest_framework.payloads import payload_of

if TYPE_CHECKING:
    from django_idempotency.rest_framework.mixins import IdempotencyMixin


class GuardedCall:
    """Shadows one handler on one view instance, so that DRF's ``dispatch()`` calls it after all of ``initial()``."""

    def __init__(self, view: IdempotencyMixin, using: str, *, atomic_requests: bool) -> None:
        self.view = view
        self.using = using
        self.atomic_requests = atomic_requests

    def install(self, request: HttpRequest) -> None:
        """Take the handler's place; where ATOMIC_REQUESTS is on, give what runs beside it a transaction again."""
        method = (request.method or "").lower()
        self.handler = getattr(self.view, method)
        setattr(self.view, method, self)
        self.give_transactions(self.view)

    def give_transactions(self, view: IdempotencyMixin) -> None:
        """Run ``initial()`` and ``handle_exception()`` in transactions of their own under ATOMIC_REQUESTS.

        DRF's ``set_rollback()`` then marks that small one, never the operation's or a test's outer one.
        """
        if self.atomic_requests:
            atomic = transaction.atomic(using=self.using)
            for name in ("initial", "handle_exception"):
                setattr(view, name, atomic(getattr(type(view), name).__get__(view)))

    def __call__(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            key = self._key(request)
            if key is None:
                return self._unguarded(request, *args, **kwargs)
            result = execute(
                self._operation(request, key), HandlerWork(self, request, args, kwargs), using=self.using
            )
        except IdempotencyError as error:
            return problem_response(self.view, error)
        if isinstance(result, Snapshot):
            self.view.authorize_idempotent_replay(request, *args, **kwargs)
        answer = replay_of(result) if isinstance(result, Snapshot) else result.answer
        self.view.finalize_response = _already_final  # type: ignore[method-assign,assignment]
        return answer

    def _key(self, request: Request) -> str | None:
        raw = self.view.get_idempotency_key(request)
        if raw is not None:
            return valid_key(str(raw))
        if conf.prefer(self.view.idempotency_required, "REQUIRED"):
            raise KeyMissing
        return None

    def _operation(self, request: Request, key: str) -> Operation:
        return operation_for(
            request._request,
            key=key,
            principal=self.view.get_idempotency_scope(request),
            payload=self.view.get_idempotency_fingerprint(request),
            kept=payload_of(request).kept if conf.STORE_REQUEST_PAYLOAD else None,
            retention=retention_of(conf.prefer(self.view.idempotency_retention, "RETENTION")),
        )

    def _unguarded(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        if not self.atomic_requests:
            return self.handler(request, *args, **kwargs)
        with transaction.atomic(using=self.using):
            return self.handler(request, *args, **kwargs)


class HandlerWork:
    """One request's handler as work for ``execute()``: run, answer what it raised, run again on fresh objects."""

    def __init__(
        self, call: GuardedCall, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.call = call
        self.args = args
        self.kwargs = kwargs
        self.view, self.request, self.handler = call.view, request, call.handler
        self.pristine = copy.copy(call.view), dict(request.__dict__)
        self.runs = 0

    def run(self, claim: Claim) -> Outcome[HttpResponseBase]:
        if self.runs:
            self._start_afresh()
        self.runs += 1
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
        if not self.view.should_store_response(final):
            return Outcome(final, None)
        keep_body = conf.prefer(self.view.idempotency_store_body, "STORE_BODY")
        return Outcome(final, snapshot_of(final, keep_body=keep_body))

    def _start_afresh(self) -> None:
        """Replace view, request and input by what they were before the first run: handlers change all three."""
        original, (pristine_view, pristine_request) = self.call.view, self.pristine
        self.view = copy.copy(pristine_view)
        for name, value in vars(pristine_view).items():
            setattr(self.view, name, _rebound(value, original, self.view))
        self.call.give_transactions(self.view)
        self.handler = _rebound(self.call.handler, original, self.view)
        rewind(self.request._request)
        self.request = _unread(type(self.request), pristine_request, self.view)
        self.view.request = self.request


def problem_response(
    view: IdempotencyMixin, error: IdempotencyError, outer: IdempotencyMixin | None = None
) -> Response:
    """Return what the view's exception handling makes of a refusal, with hints and links added."""
    exception = IdempotencyAPIException(error)
    return as_problem(exception, handled(view, exception, outer or view), view.request)


def handled(view: IdempotencyMixin, error: Exception, outer: IdempotencyMixin) -> Response:
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
    bound = isinstance(value, MethodType) and value.__self__ is old
    return MethodType(value.__func__, new) if bound else value


def _unread(kind: type[Request], state: dict[str, Any], view: IdempotencyMixin) -> Request:
    """Return a request as ``state`` has it, with nothing of its body parsed yet."""
    request = kind.__new__(kind)
    request.__dict__.update(state, _data=Empty, _files=Empty, _full_data=Empty, _stream=Empty)
    request.parser_context = {**state["parser_context"], "request": request, "view": view}
    return request
