"""The door for Django Ninja: ``@idempotent`` between ``@api.post(…)`` and the function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja.operation import AsyncOperation, Operation
from ninja.signature.utils import get_typed_signature
from ninja.utils import contribute_operation_callback

from django_idempotency.calls import Active, Call, is_active
from django_idempotency.contrib.ninja_schema import described
from django_idempotency.core.operations import Claim, Outcome, Snapshot
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.execution import finished, on_thread
from django_idempotency.guards import Policy, ViewWork, executed
from django_idempotency.http import replay_of
from django_idempotency.options import Options
from django_idempotency.refusals import refusal
from django_idempotency.scopes import found_principal, user_principal

F = TypeVar("F", bound=Callable[..., Any])

_REGISTERED = "_idempotency_registered"
_PASSING = "_idempotency_passing"


@overload
def idempotent(function: F, /) -> F: ...
@overload
def idempotent(**options: Any) -> Callable[[F], F]: ...
def idempotent(function: Any = None, /, **options: Any) -> Any:
    """Make an operation take effect once per ``Idempotency-Key``, bare or with options (``required=True``).

    It stands below ``@api.post(…)``, on sync and async functions. Authentication and throttles run before a replay as
    before the first run, and so do decorators between ``@api.post(…)`` and this one, and those of routers; what
    stands below is not asked again. What an exception handler of the API makes of an error is stored like a returned
    answer, without the writes. The options are those of ``django_idempotency.decorators.idempotent``; their
    callables may read ``request.auth``, which also gives the scope. Raises TypeError where it cannot guard.
    """
    chosen = Options(**options)
    return (
        _decorated(function, chosen)
        if function is not None
        else lambda function: _decorated(function, chosen)
    )


def _decorated(function: Any, options: Options) -> Any:
    if not callable(function) or isinstance(function, type) or hasattr(function, "_ninja_operation"):
        raise TypeError(
            f"@idempotent must stand directly below @api.post(…), on the function, and got {function!r}."
        )
    door = _door(function)
    # Ninja would look for the names in its annotations among this module's globals.
    door.__signature__ = get_typed_signature(function)
    door._ninja_contribute_to_operation = [*getattr(function, "_ninja_contribute_to_operation", ())]
    contribute_operation_callback(door, partial(_install, door, options))
    return door


def _door(function: Any) -> Any:
    """Return what stands in for a function: it tells that all above it let the request pass."""

    @wraps(function)
    def door(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        _passed(door, request)
        return function(request, *args, **kwargs)

    @wraps(function)
    async def async_door(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        _passed(async_door, request)
        return await function(request, *args, **kwargs)

    return async_door if iscoroutinefunction(function) else door


def _passed(door: Any, request: HttpRequest) -> None:
    if not hasattr(door, _REGISTERED):
        raise TypeError(
            f"{door.__qualname__} is no operation of Django Ninja, or a decorator above @idempotent lacks "
            "functools.wraps(): for other views there is django_idempotency.decorators.idempotent."
        )
    if hasattr(request, _PASSING):
        raise _Passed


class _Passed(BaseException):
    """Raised by the door in place of the function; no ``except Exception`` above it takes it for an error."""


def _install(door: Any, options: Options, operation: Operation) -> None:
    """Make a guarded one of ``operation``, the template whose clones ninja runs, with its decorators around them."""
    kind = _KINDS.get(type(operation))
    if kind is None or getattr(operation, "stream_format", None):
        raise TypeError(
            f"@idempotent cannot guard {door.__qualname__}: {type(operation).__name__} or a stream."
        )
    guarded = cast(_Guarded, operation)
    guarded.__class__ = kind
    guarded.idempotency, guarded.idempotency_door = options, door
    setattr(door, _REGISTERED, True)


class _Guarded(Operation):
    """An operation that answers keyed requests through the engine, and all others as ever."""

    _idempotency_guarded = True
    idempotency: Options
    idempotency_door: Callable[..., Any]

    def run(self, request: HttpRequest, **kw: Any) -> HttpResponseBase:
        if self._is_unconcerned(request):
            return super().run(request, **kw)
        return self._run_checks(request) or self._answer(request, kw)

    def clone(self) -> Operation:
        cloned = cast(_Guarded, super().clone())
        cloned.idempotency, cloned.idempotency_door = self.idempotency, self.idempotency_door
        cloned.openapi_extra = self.__dict__["openapi_extra"]
        return cloned

    @property
    def openapi_extra(self) -> dict[str, Any] | None:
        """What the OpenAPI schema says of the operation, by the settings of the moment."""
        return described(
            self.__dict__["openapi_extra"] or {}, self.idempotency, self.methods, self.response_models
        )

    @openapi_extra.setter
    def openapi_extra(self, value: dict[str, Any] | None) -> None:
        self.__dict__["openapi_extra"] = value

    def refused(self, request: HttpRequest, error: IdempotencyError) -> HttpResponseBase:
        """Return what the API's handler makes of a refusal, or problem details where it has none of its own."""
        kinds = [kind for kind in type(error).__mro__ if issubclass(kind, IdempotencyError)]
        if any(kind in self.api._exception_handlers for kind in kinds):
            return self.api.on_exception(request, error)
        return refusal(request, error)

    def _is_unconcerned(self, request: HttpRequest) -> bool:
        return is_active(request) or not _Policy(self.idempotency).may_be_keyed(request)

    def _answer(self, request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
        policy, call = _Policy(self.idempotency), Call(self._respond, None, request, (), path)
        try:
            key = policy.key(request)
            return self._unkeyed(call) if key is None else self._once(call, policy, key)
        except IdempotencyError as error:
            return self.refused(request, error)

    def _once(self, call: Call, policy: Policy, key: str) -> HttpResponseBase:
        with Active(call.request):
            result = executed(call, policy, key, partial(_Work, self))
            if isinstance(result, Snapshot):
                return self._withheld(call) or replay_of(result)
        return result.answer

    def _respond(self, request: HttpRequest, **path: Any) -> HttpResponseBase:
        """Do what ninja does after its checks, but let errors out: the writes have to go before they are answered."""
        response = self.api.create_temporal_response(request)
        values = self._get_values(request, path, response)
        return self._result_to_response(request, finished(self.view_func(request, **values)), response)

    def _unkeyed(self, call: Call) -> HttpResponseBase:
        try:
            answer: HttpResponseBase = call()
        except Exception as error:  # noqa: BLE001 (ninja hands every exception to its handlers)
            return self.api.on_exception(call.request, error)
        return answer

    def _withheld(self, call: Call) -> HttpResponseBase | None:
        """Ask the decorators above the door again; return their refusal, or None where they let the request pass."""
        if self.view_func is self.idempotency_door:
            return None
        setattr(call.request, _PASSING, True)
        try:
            return self._unkeyed(call)
        except _Passed:
            return None
        finally:
            delattr(call.request, _PASSING)


class _AsyncGuarded(_Guarded, AsyncOperation):
    async def run(self, request: HttpRequest, **kw: Any) -> HttpResponseBase:  # type: ignore[override]
        if self._is_unconcerned(request):
            return await AsyncOperation.run(self, request, **kw)
        refused = await AsyncOperation._run_checks(self, request)
        return refused or await on_thread(self._answer, request, kw)


_KINDS: dict[type, type[_Guarded]] = {Operation: _Guarded, AsyncOperation: _AsyncGuarded}


class _Policy(Policy):
    """Knows what ninja's authentication found."""

    def caller(self, request: HttpRequest) -> str:
        auth = getattr(request, "auth", None)
        # Nothing found, a mere yes (of an IP address, for example), or an AnonymousUser.
        if auth is None or auth is True or getattr(auth, "is_authenticated", None) is False:
            return super().caller(request)
        return user_principal(auth, request) or found_principal(auth, request)


class _Work(ViewWork):
    """An operation's function as work for the engine: what it raises is answered by the API's exception handlers."""

    def __init__(self, operation: _Guarded, call: Call, policy: Policy) -> None:
        super().__init__(call, policy)
        self.operation = operation

    def refuse(self, claim: Claim, error: Exception) -> Outcome[HttpResponseBase]:
        if isinstance(error, IdempotencyError):  # the refusal of an operation inside this one is never stored
            return Outcome(self.operation.refused(self.call.request, error), None)
        try:
            raise error  # the API's handlers expect to be called where it is being handled: they log it
        except Exception:  # noqa: BLE001
            answer = self.operation.api.on_exception(self.call.request, error)
        return self.policy.outcome(answer)
