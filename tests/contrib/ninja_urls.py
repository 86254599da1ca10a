"""An API of Django Ninja whose operations have one effect, and then do what the test asks for."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from ninja import File, NinjaAPI, Router, Schema, Status, UploadedFile
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.security import APIKeyHeader, HttpBearer
from ninja.throttling import AnonRateThrottle
from rest_framework.authtoken.models import Token

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.decorators import idempotency_exempt
from django_idempotency.decorators import idempotent as plainly_idempotent
from django_idempotency.exceptions import KeyMissing
from django_idempotency.execution import execute_once
from example_project.shop.models import Product
from tests.doors.views import answer, async_answer
from tests.views import effect


class OrderIn(Schema):
    amount: int = 1


class OrderOut(Schema):
    id: int
    amount: int


class ByToken(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> Any:
        found = Token.objects.filter(key=token).select_related("user").first()
        return found and found.user


class Anything:
    """Callers who are known by whatever the test puts here."""

    found: Any = True

    def __call__(self, request: HttpRequest) -> Any:
        return self.found


REFUSED: set[str] = set()


def allowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse callers as a project's permission decorator does: with an answer or an error."""

    @wraps(function)
    def check(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if "answer" in REFUSED:
            return Status(403, {"detail": "refused"})
        if "error" in REFUSED:
            raise HttpError(403, "refused")
        try:
            result: OrderOut = function(request, *args, **kwargs)
        except Exception as error:
            raise HttpError(500, "noticed by the decorator") from error
        return {"id": result.id, "amount": result.amount}

    return check


def stamped(run: Callable[..., Any]) -> Callable[..., Any]:
    """Add a header to whatever an operation answers."""

    @wraps(run)
    def stamp(request: HttpRequest, **kwargs: Any) -> Any:
        response = run(request, **kwargs)
        response.headers["X-Stamp"] = "1"
        return response

    return stamp


def order(amount: int) -> OrderOut:
    return OrderOut(id=effect(), amount=amount)


api = NinjaAPI(urls_namespace="ninja")


@api.post("/act/{act}")
@idempotent
def act(request: HttpRequest, act: str) -> Any:
    return answer(act)


@api.post("/async-act/{act}")
@idempotent
async def async_act(request: HttpRequest, act: str) -> Any:
    return await async_answer(act)


@api.post("/orders", response={201: OrderOut}, auth=ByToken())
@idempotent(required=True)
def create(request: HttpRequest, payload: OrderIn, response: HttpResponse) -> Any:
    """Read the claim, have the effect, set a header."""
    response.headers["Location"] = "/orders/1"
    response.set_cookie("session", "secret")
    assert request.idempotency.key
    return Status(201, order(payload.amount))


@api.post("/async-orders", response={201: OrderOut}, auth=ByToken())
@idempotent
async def acreate(request: HttpRequest, payload: OrderIn) -> Any:
    product = await Product.objects.acreate(name="effect", price="1.00", stock=1)
    return Status(201, {"id": product.pk, "amount": payload.amount})


@api.post("/raise/{what}")
@idempotent
def accident(request: HttpRequest, what: str, amount: int = 0) -> Any:
    number = effect()
    if what == "missing":
        raise Http404
    if what == "nested":
        return execute_once(lambda: 1 / 0 if amount else number, key="two words \n", scope="inner")
    raise HttpError(int(what), f"number {number}")


anything = Anything()


@api.post("/anything", auth=anything)
@idempotent
def for_anybody(request: HttpRequest) -> Any:
    return {"id": effect()}


class ByKey(APIKeyHeader):
    param_name = "X-API-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return key


@api.post("/by-key", auth=ByKey())
@idempotent
def by_key(request: HttpRequest) -> Any:
    return {"id": effect()}


@api.post("/seldom", throttle=AnonRateThrottle("2/h"))
@idempotent
def seldom(request: HttpRequest) -> Any:
    return {"id": effect()}


@api.post("/above", response={200: OrderOut, 403: dict})
@allowed
@idempotent
def above(request: HttpRequest, payload: OrderIn) -> Any:
    return order(payload.amount)


@api.post("/stamped")
@decorate_view(stamped)
@idempotent
def stamped_above(request: HttpRequest) -> Any:
    return {"id": effect()}


@api.post("/stamped-below")
@idempotent
@decorate_view(stamped)
def stamped_below(request: HttpRequest) -> Any:
    return {"id": effect()}


@api.post("/form")
@idempotent
def form(request: HttpRequest, file: File[UploadedFile]) -> Any:
    effect()
    return {"size": len(file.read())}


@api.put("/put", openapi_extra={"x-own": True})
@idempotent
def put(request: HttpRequest) -> Any:
    return {"id": effect()}


@api.post("/own-key", response={409: None})
@idempotent(key=lambda request: request.GET.get("key"))
def own_key(request: HttpRequest) -> Any:
    effect()
    return Status(409, None)


router = Router()
router.add_decorator(allowed)


@router.post("/orders", response={200: OrderOut, 403: dict})
@idempotent
def routed(request: HttpRequest, payload: OrderIn) -> Any:
    return order(payload.amount)


api.add_router("/first", router, url_name_prefix="first")
api.add_router("/second", router, url_name_prefix="second")

strict = NinjaAPI(urls_namespace="strict")


@strict.exception_handler(KeyMissing)
def own_refusal(request: HttpRequest, error: KeyMissing) -> HttpResponse:
    return strict.create_response(request, {"error": error.code}, status=418)


@strict.post("/orders")
@idempotent(required=True)
def strictly(request: HttpRequest) -> Any:
    return {"id": effect()}


@strict.post("/raises")
@idempotent
def raises(request: HttpRequest) -> Any:
    effect()
    raise KeyMissing


bare = NinjaAPI(urls_namespace="bare")


@bare.post("/orders")
def unguarded(request: HttpRequest) -> Any:
    return {"id": effect()}


@bare.get("/orders")
def listing(request: HttpRequest) -> Any:
    return []


@bare.post("/log-in")
@idempotency_exempt
def log_in(request: HttpRequest) -> Any:
    return {"id": effect()}


@bare.post("/guarded")
@idempotent
def guarded(request: HttpRequest) -> Any:
    return {"id": effect()}


bare_router = Router()


@bare_router.post("/orders")
async def unguarded_too(request: HttpRequest) -> Any:
    return {"id": str(uuid.uuid4())}


bare.add_router("/router", bare_router)


def callback(of: NinjaAPI, route: str) -> Any:
    """Return the callback of one path of an API."""
    return next(pattern.callback for pattern in of.urls[0] if str(pattern.pattern) == route)


def deny(view: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse callers who do not say please."""

    @wraps(view)
    def denied(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return view(request, *args, **kwargs) if "please" in request.GET else HttpResponse(status=403)

    return denied


@plainly_idempotent
def outer(request: HttpRequest) -> Any:
    """Hand a request that is guarded here on to an operation that is guarded too."""
    return callback(api, "act/<act>")(request, act="201")


urlpatterns = [
    path("outer/", outer),
    path("ninja/", api.urls),
    path("strict/", strict.urls),
    path("site/", bare.urls),
    path("site/denied/", deny(callback(bare, "orders"))),
]
