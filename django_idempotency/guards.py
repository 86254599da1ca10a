"""Guard a view that takes Django's own request: the code that decorator and middleware share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connections, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency.bodies import MULTIPART, multipart_payload, read_payload
from django_idempotency.calls import Active, Call, is_active
from django_idempotency.claims.registry import RecordAlias, record_alias
from django_idempotency.conf import conf
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.early import in_early_transaction
from django_idempotency.engine import execute
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.execution import on_thread
from django_idempotency.http import (
    form_key,
    is_form,
    is_stored,
    operation_for,
    outcome_of,
    raw_key,
    replay_of,
    wanted_key,
)
from django_idempotency.options import Options
from django_idempotency.refusals import refusal
from django_idempotency.restarts import Restart, fresh, let_go
from django_idempotency.scopes import ANONYMOUS, authorization_principal, user_principal

FORM_WAIT_SECONDS = 10

_NON_ATOMIC = "_idempotency_non_atomic"


class Policy:
    """How one plain view is guarded: its options over the settings."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def may_be_keyed(self, request: HttpRequest) -> bool:
        """Tell whether a request is to be looked at, without reading its body."""
        if request.method not in conf.prefer(self.options.methods, "METHODS"):
            return False
        asked = self.options.key is not None or conf.prefer(self.options.required, "REQUIRED")
        return asked or raw_key(request) is not None or is_form(request)

    def key(self, request: HttpRequest) -> str | None:
        """Return the valid key of a request, or None for one that needs none; raise KeyMissing or KeyInvalid."""
        raw = self.options.key(request) if self.options.key else form_key(request) or raw_key(request)
        return wanted_key(raw, required=conf.prefer(self.options.required, "REQUIRED"))

    def wait_seconds(self, request: HttpRequest) -> float:
        """Return how long a duplicate waits: people who click twice wait for the page, programs as they are told."""
        seconds: float = conf.prefer(self.options.wait_seconds, "WAIT_SECONDS")
        by_form = self.options.wait_seconds is None and self.options.key is None and form_key(request)
        return max(seconds, FORM_WAIT_SECONDS) if by_form else seconds

    def operation(self, request: HttpRequest, key: str) -> Operation:
        payload = _payload(request, conf.prefer(self.options.ignore_fields, "FINGERPRINT_IGNORE"))
        fingerprint = self.options.fingerprint or conf.hook("FINGERPRINT")
        return operation_for(
            request,
            key=key,
            principal=self._principal(request),
            payload=fingerprint(request) if fingerprint else payload.digest,
            kept=lambda: payload.kept,
            retention=conf.retention(self.options.retention),
        )

    def outcome(self, response: HttpResponseBase) -> Outcome[HttpResponseBase]:
        stored = (self.options.store or is_stored)(response)
        return outcome_of(
            response, stored=stored, keep_body=conf.prefer(self.options.store_body, "STORE_BODY")
        )

    def _principal(self, request: HttpRequest) -> str:
        scope = self.options.scope or conf.hook("SCOPE")
        return self.caller(request) if scope is None else scope(request)

    def caller(self, request: HttpRequest) -> str:
        """Return who sent a request, where no SCOPE tells."""
        user = user_principal(getattr(request, "user", None), request)
        return user or authorization_principal(request) or ANONYMOUS


class ViewWork:
    """One call of a plain view as work for the engine: what it raises is raised on, and run again on fresh objects."""

    def __init__(self, call: Call, policy: Policy) -> None:
        self.call = call
        self.policy = policy
        self.start: tuple[Any, Restart] | None = None
        self.answer: HttpResponseBase | None = None

    def run(self, claim: Claim) -> Outcome[HttpResponseBase]:
        if self.start is None:
            self.start = fresh(self.call.owner), Restart(self.call.request)
        else:
            let_go(self.answer)
            owner, restart = self.start
            self.call.owner = fresh(owner)
            restart.restore()
        request: Any = self.call.request
        request.idempotency = claim
        self.answer = _rendered(self.call)
        return self.policy.outcome(self.answer)

    def refuse(self, claim: Claim, error: Exception) -> Outcome[HttpResponseBase]:
        raise error


def shadow(
    view: Callable[..., Any], options: Options, answer: Callable[[Call], Any] | None = None
) -> Callable[..., Any]:
    """Return what stands in for ``view``, a coroutine function for a coroutine function: it answers through the guard.

    An async view runs on the event loop as ever, while the thread that has the transaction waits and serves the
    view's thread-sensitive calls: its async ORM writes are in the same transaction as the record.
    """

    def answered(call: Call) -> Any:
        return answer(call) if answer else guarded(call, options)

    @wraps(view)
    def sync_shadow(*args: Any, **kwargs: Any) -> Any:
        return answered(Call.of(view, args, kwargs))

    @wraps(view)
    async def async_shadow(*args: Any, **kwargs: Any) -> Any:
        call = Call.of(view, args, kwargs)
        if is_concerned(call, options):
            return await on_thread(answered, call)
        return await view(*args, **kwargs)

    return async_shadow if iscoroutinefunction(view) else sync_shadow


def is_concerned(call: Call, options: Options) -> bool:
    """Tell whether an async call needs the thread that has the database connection: a key, or ATOMIC_REQUESTS."""
    if is_active(call.request):
        return False
    atomic_requests = connections.settings[record_alias()]["ATOMIC_REQUESTS"]
    return bool(atomic_requests) or Policy(options).may_be_keyed(call.request)


def guarded(call: Call, options: Options, *, non_atomic: Collection[str] = ()) -> HttpResponseBase:
    """Answer a call that takes effect once if its request carries a key, and as ever if not."""
    policy = Policy(options)
    if is_active(call.request) or not policy.may_be_keyed(call.request):
        return unguarded(call, non_atomic=non_atomic)
    try:
        key = policy.key(call.request)
        return unguarded(call, non_atomic=non_atomic) if key is None else once(call, policy, key)
    except IdempotencyError as error:
        return refusal(call.request, error)


def once(call: Call, policy: Policy, key: str) -> HttpResponseBase:
    """Answer a keyed call with what its one execution answered; raise what refuses it."""
    with Active(call.request):
        result = executed(call, policy, key, ViewWork)
    return replay_of(result) if isinstance(result, Snapshot) else result.answer


def executed(
    call: Call, policy: Policy, key: str, work: Callable[[Call, Policy], ViewWork]
) -> Outcome[HttpResponseBase] | Snapshot:
    """Run a keyed call through the engine, which runs ``work`` when the body is read, so that it can be rewound."""
    operation = policy.operation(call.request, key)
    wait = policy.wait_seconds(call.request)
    if call.early is not None:
        call.early.end_for_claim()
    return execute(operation, work(call, policy), using=record_alias(), wait=wait)


def atomic_by_door(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return a class's callback that opens ATOMIC_REQUESTS' transaction itself, as Django would, and marked so.

    An unkeyed request has it to the end. Django opens none around an async view, so that is marked, and told which
    aliases the project itself has named.
    """

    def using() -> str | None:
        alias = record_alias()
        wanted = connections[alias].settings_dict["ATOMIC_REQUESTS"] and not marks().is_named(alias)
        return alias if wanted else None

    def marks() -> RecordAlias:
        found: RecordAlias = callback._non_atomic_requests
        return found

    @wraps(view)
    def telling(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        setattr(request, _NON_ATOMIC, {*marks()})
        return view(request, *args, **kwargs)  # no coroutine where dispatch() answers by itself

    is_async = iscoroutinefunction(view)
    callback: Any = markcoroutinefunction(telling) if is_async else in_early_transaction(view, using)
    callback._non_atomic_requests = RecordAlias(getattr(view, "_non_atomic_requests", ()))
    made: Callable[..., Any] = callback
    return made


def named_non_atomic(request: HttpRequest) -> Collection[str]:
    """Return the aliases for which the project said ``@transaction.non_atomic_requests`` of the async class."""
    named: Collection[str] = getattr(request, _NON_ATOMIC, ())
    return named


def unguarded(call: Call, *, non_atomic: Collection[str] = ()) -> HttpResponseBase:
    """Answer as Django would: in a transaction where ATOMIC_REQUESTS asks for one and a door's mark took it away.

    ``non_atomic`` names the aliases for which the project itself said ``@transaction.non_atomic_requests``.
    """
    using = record_alias()
    connection = connections[using]
    atomic_requests = connection.settings_dict["ATOMIC_REQUESTS"] and using not in non_atomic
    if not atomic_requests or connection.in_atomic_block:
        answer: HttpResponseBase = call()
        return answer
    with transaction.atomic(using=using):
        return unguarded(call)


def _payload(request: Any, ignore: Any) -> Any:
    # Django parses a POST; whoever has parsed another one before has left nothing to read.
    is_parsed = hasattr(request, "_files") and not hasattr(request, "_body") and request._read_started
    if request.content_type == MULTIPART and (request.method == "POST" or is_parsed):
        return multipart_payload(request, ignore)
    return read_payload(request, ignore)


def _rendered(call: Call) -> HttpResponseBase:
    """Return the view's answer, rendered while the transaction is open, so that its very bytes are stored."""
    response = call()
    if not isinstance(response, HttpResponseBase):
        name = getattr(call.function, "__qualname__", repr(call.function))
        raise TypeError(f"The view {name} returned {type(response).__name__} instead of an HttpResponse.")
    if callable(render := getattr(response, "render", None)):
        response = render()
    return response
