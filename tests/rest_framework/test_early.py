"""What ``initial()`` does belongs to the view's transaction under ATOMIC_REQUESTS, as it does without this package."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.views import APIView

from django_idempotency.claims.base import ClaimLost
from django_idempotency.claims.postgresql import PostgreSQLClaims
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests.conftest import ATOMIC_REQUESTS
from tests.views import ProbeView, effects

pytestmark = [pytest.mark.django_db(transaction=True)]

postgresql = pytest.mark.vendors("postgresql")
Initial = Callable[[ProbeView], None]


@pytest.fixture(autouse=True)
def _atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, ATOMIC_REQUESTS, True)


@pytest.fixture
def initially(monkeypatch: pytest.MonkeyPatch) -> Callable[[Initial], None]:
    """Let the view's ``initial()`` call a function last."""
    own = ProbeView.initial

    def install(function: Initial) -> None:
        def initial(self: ProbeView, request: Any, *args: Any, **kwargs: Any) -> None:
            own(self, request, *args, **kwargs)
            function(self)

        monkeypatch.setattr(ProbeView, "initial", initial)

    return install


@pytest.fixture
def undone_once(monkeypatch: pytest.MonkeyPatch) -> list[Claim]:
    """Let the transaction of the first run be undone at its end; the list then holds its claim."""
    undone: list[Claim] = []
    own = PostgreSQLClaims.complete

    def complete(self: PostgreSQLClaims, claim: Claim, snapshot: Snapshot) -> None:
        if not undone:
            undone.append(claim)
            raise ClaimLost
        own(self, claim, snapshot)

    monkeypatch.setattr(PostgreSQLClaims, "complete", complete)
    return undone


def send(act: str = "create", key: str | None = "k", body: Any = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    client = Client(raise_request_exception=False, headers=headers)
    return client.post(f"/probe/{act}/", json.dumps(body or {}), content_type="application/json")


def note(view: ProbeView) -> None:
    """Leave a trace: a row that is no effect of the handler's."""
    Product.objects.create(name="note", price="0.00", stock=0)


def notes() -> int:
    return Product.objects.filter(name="note").count()


@postgresql
def test_initial_handler_and_record_share_one_transaction(initially: Any) -> None:
    initially(note)
    with CaptureQueriesContext(connection) as captured:
        assert send().status_code == 201
    verbs = [query["sql"].split()[0] for query in captured]
    assert (verbs[0], verbs[-1]) == ("BEGIN", "COMMIT")
    assert not {"BEGIN", "COMMIT", "SAVEPOINT"} & {*verbs[1:-1]}
    assert (notes(), effects(), IdempotencyRecord.objects.count()) == (1, 2, 1)


@postgresql
def test_setting_of_the_transaction_lasts_into_the_handler(
    initially: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As row level security needs it: ``set_config(…, true)`` in ``initial()``."""
    seen = []

    def tenant(view: ProbeView) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('shop.tenant', '7', true)")

    def post(self: ProbeView, request: Any, act: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('shop.tenant')")
            seen.append(cursor.fetchone()[0])
        return ProbeView.patch(self, request, act)

    initially(tenant)
    monkeypatch.setattr(ProbeView, "post", post)
    for key in (None, "k"):
        assert send(key=key).status_code == 201
    assert seen == ["7", "7"]


@pytest.mark.parametrize("key", ["k", None])
def test_writes_of_initial_stay_with_an_answer_and_with_a_replay(initially: Any, key: str | None) -> None:
    initially(note)
    assert [send(key=key).status_code for _ in range(2)] == [201, 201]
    assert (notes(), effects() - notes()) == (2, 1 if key else 2)


@pytest.mark.parametrize("key", ["k", None])
@postgresql
def test_writes_of_initial_go_with_what_is_rolled_back(initially: Any, key: str | None) -> None:
    """Exactly as ATOMIC_REQUESTS does without a key."""
    initially(note)
    assert [send(act, key and act).status_code for act in ("crash", "invalid", "denied")] == [500, 400, 403]
    assert effects() == 0


@postgresql
def test_writes_of_initial_go_with_an_error_before_the_claim(
    initially: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ProbeView, request: Any) -> str:
        raise RuntimeError

    initially(note)
    assert send(key="two words").status_code == 400
    monkeypatch.setattr(ProbeView, "get_idempotency_scope", broken)
    assert send().status_code == 500
    assert notes() == 0


def test_refusal_in_initial_is_rolled_back_and_nothing_is_claimed(initially: Any) -> None:
    def refuse(view: ProbeView) -> None:
        note(view)
        raise PermissionDenied

    initially(refuse)
    assert send().status_code == 403
    assert (effects(), IdempotencyRecord.objects.count()) == (0, 0)


@postgresql
def test_operation_that_runs_again_has_what_initial_wrote(initially: Any, undone_once: list[Claim]) -> None:
    initially(note)
    assert send().status_code == 201
    assert undone_once
    assert (notes(), effects() - notes(), IdempotencyRecord.objects.count()) == (1, 1, 1)


@postgresql
def test_operation_that_runs_again_has_what_dispatch_wrote(
    monkeypatch: pytest.MonkeyPatch, undone_once: list[Claim]
) -> None:
    """Nobody calls ``dispatch()`` again: what it wrote must not be undone with the first run."""
    own = ProbeView.dispatch

    def dispatch(self: ProbeView, request: Any, *args: Any, **kwargs: Any) -> Any:
        note(self)
        return own(self, request, *args, **kwargs)

    monkeypatch.setattr(ProbeView, "dispatch", dispatch)
    assert send().status_code == 201
    assert undone_once
    assert (notes(), effects() - notes()) == (1, 1)


class Provision(BaseAuthentication):
    """Makes a user of whoever comes for the first time; sees whom the middlewares, and no authentication, put there."""

    seen: list[Any] = []

    def authenticate(self, request: Any) -> tuple[Any, None]:
        self.seen.append(getattr(request._request, "user", None))
        return get_user_model().objects.get_or_create(username="new")[0], None


@postgresql
def test_operation_whose_user_is_undone_is_never_stored_for_that_user(
    monkeypatch: pytest.MonkeyPatch, undone_once: list[Claim]
) -> None:
    """Its retry has another user, whose key would look unused: it would run twice."""
    monkeypatch.setattr(ProbeView, "authentication_classes", [Provision])
    monkeypatch.setattr(Provision, "seen", [])
    answers = [send() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 201, 201]
    assert answers[0].headers["Retry-After"] == "1"
    assert (effects(), IdempotencyRecord.objects.count()) == (1, 1)
    assert not [user for user in Provision.seen if user is not None and user.is_authenticated]


@postgresql
def test_duplicate_that_waited_and_runs_has_what_initial_wrote(
    initially: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Its first look is refused, and rolled back: it runs in a transaction that ``initial()`` did not open."""
    settings.IDEMPOTENCY = {"WAIT_SECONDS": 20}
    refused = []

    def refused_once(self: PostgreSQLClaims, operation: Operation) -> Any:
        if not refused:
            refused.append(operation)
            raise InProgress
        return claim(self, operation)

    claim = PostgreSQLClaims.claim
    monkeypatch.setattr(PostgreSQLClaims, "claim", refused_once)
    initially(note)
    assert send().status_code == 201
    assert refused
    assert (notes(), effects() - notes()) == (1, 1)


def test_initial_that_swallowed_a_database_error_does_not_stop_the_request(initially: Any) -> None:
    """PostgreSQL takes no more statements in that transaction: the claim has one of its own."""

    def clumsy(view: ProbeView) -> None:
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")

    initially(clumsy)
    assert send().status_code == 201
    assert send().headers["Idempotent-Replayed"] == "true"
    assert effects() == 1


def test_initial_that_marked_its_transaction_for_rollback_loses_its_own_writes_only(initially: Any) -> None:
    def marked(view: ProbeView) -> None:
        note(view)
        transaction.set_rollback(True)

    initially(marked)
    assert send().status_code == 201
    assert (notes(), effects()) == (0, 1)


@postgresql
def test_hook_of_initial_that_raises_hides_no_commit(initially: Any) -> None:
    def hook() -> None:
        raise IntegrityError("from a hook")

    initially(lambda view: transaction.on_commit(hook))
    assert send().status_code == 500
    assert (effects(), IdempotencyRecord.objects.completed().count()) == (1, 1)


@pytest.mark.parametrize(("key", "body", "status"), [("two words", None, 400), ("k", {"a": 2}, 422)])
def test_refusals_leave_no_transaction_open(initially: Any, key: str, body: Any, status: int) -> None:
    send()
    initially(note)
    assert send(key=key, body=body).status_code == status
    assert not connection.in_atomic_block


def test_dispatch_that_never_calls_the_handler_leaves_no_transaction_open(
    initially: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dispatch(self: APIView, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        self.request = self.initialize_request(request, *args, **kwargs)
        self.initial(self.request, *args, **kwargs)
        return HttpResponse("own")

    initially(note)
    monkeypatch.setattr(APIView, "dispatch", dispatch)
    assert send().content == b"own"
    assert (connection.in_atomic_block, notes()) == (False, 1)


@pytest.mark.parametrize("act", ["create", "crash"])
def test_initial_that_is_called_again_opens_no_second_transaction(
    monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """By a handler that dispatches to another one, after it has written something."""
    own = ProbeView.post

    def post(self: ProbeView, request: Any, act: str) -> Any:
        note(self)
        self.initial(request, act=act)
        return own(self, request, act)

    monkeypatch.setattr(ProbeView, "post", post)
    status = send(act).status_code
    assert not connection.in_atomic_block
    assert (status, notes()) == ((201, 1) if act == "create" else (500, 0))
    assert IdempotencyRecord.objects.completed().count() == notes()


def test_inside_a_tests_own_transaction(initially: Any) -> None:
    initially(note)
    with transaction.atomic():
        assert send().content == send().content
        assert send(key="two words").status_code == 400
        assert send("crash", key="c").status_code == 500
    assert effects() - notes() == 1


@postgresql
def test_replay_from_the_cache_that_is_refused_undoes_what_initial_wrote(
    initially: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.IDEMPOTENCY = {"CACHE": "default"}
    initially(note)

    def refuse(self: ProbeView, request: Any, *args: Any, **kwargs: Any) -> None:
        raise PermissionDenied

    monkeypatch.setattr(ProbeView, "authorize_idempotent_replay", refuse)
    assert [send().status_code for _ in range(2)] == [201, 403]
    assert (notes(), connection.in_atomic_block) == (1, False)
