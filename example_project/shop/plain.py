"""The shop's door for single views of Django itself: ``@idempotent``.

It goes below whatever authorises the caller, so that a replay is authorised like the first request, and on the
handler of a class, never on its ``dispatch()``. Sync and async views look the same. Each view here adds money to the
caller's wallet, which is what hurts most when it is repeated.
"""

import json

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_idempotency.decorators import idempotent
from example_project.shop import faults
from example_project.shop.forms import DepositForm
from example_project.shop.models import Wallet
from example_project.shop.tokens import token_required


@csrf_exempt
@require_POST
@token_required
@idempotent(required=True)
def deposit(request: HttpRequest) -> JsonResponse:
    """Add ``amount`` to the caller's wallet, in a function."""
    return add_money(request)


@method_decorator([csrf_exempt, token_required], name="dispatch")
class DepositView(View):
    """The same in a class: the token is checked around ``dispatch()``, the handler is what happens once."""

    @idempotent(required=True)
    def post(self, request: HttpRequest) -> JsonResponse:
        """Add ``amount`` to the caller's wallet."""
        return add_money(request)


@csrf_exempt
@require_POST
@token_required
@idempotent(required=True)
async def adeposit(request: HttpRequest) -> JsonResponse:
    """Do the same with async ORM calls: they are in the transaction of the record."""
    return await aadd_money(request)


class AsyncDepositView(View):
    """An async class: ``dispatch()`` is no coroutine function, so the token is checked around ``as_view()``."""

    @idempotent(required=True)
    async def post(self, request: HttpRequest) -> JsonResponse:
        """Add ``amount`` to the caller's wallet."""
        return await aadd_money(request)


def add_money(request: HttpRequest) -> JsonResponse:
    """Add the request's ``amount`` to the caller's wallet and show the balance, or say what is wrong with it."""
    form = read(request)
    if not form.is_valid():
        return refused(form)
    wallet = Wallet.objects.get(user=request.user.pk)
    wallet.deposit(form.cleaned_data["amount"])
    faults.strike(request)
    return JsonResponse({"balance": wallet.balance}, status=201)


async def aadd_money(request: HttpRequest) -> JsonResponse:
    """Do the same with async ORM calls."""
    form = read(request)
    if not form.is_valid():
        return refused(form)
    wallet = await Wallet.objects.aget(user=request.user.pk)
    await wallet.adeposit(form.cleaned_data["amount"])
    await faults.astrike(request)
    return JsonResponse({"balance": wallet.balance}, status=201)


def read(request: HttpRequest) -> DepositForm:
    """Return the request's JSON object as a form, and an empty form for anything else."""
    try:
        data = json.loads(request.body)
    except ValueError:
        data = {}
    return DepositForm(data if isinstance(data, dict) else {})


def refused(form: DepositForm) -> JsonResponse:
    """Answer what is wrong with the form."""
    return JsonResponse(form.errors.get_json_data(), status=400)


urlpatterns = [
    path("function/", deposit, name="plain-function"),
    path("class/", DepositView.as_view(), name="plain-class"),
    path("async-function/", adeposit, name="plain-async-function"),
    path("async-class/", csrf_exempt(token_required(AsyncDepositView.as_view())), name="plain-async-class"),
]
