"""The shop's door for other programs' events: the event's own id is the key.

A provider delivers an event until it hears 2xx, so more than once. ``execute_once`` makes it take effect once, whoever
delivers it and however often, and the provider needs no header for that.
"""

import hashlib
import hmac
import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_idempotency.exceptions import InProgress, StoreUnavailable
from django_idempotency.execution import execute_once
from example_project.shop import faults
from example_project.shop.forms import PaymentEventForm
from example_project.shop.models import Wallet

SIGNATURE = "X-Provider-Signature"


@csrf_exempt
@require_POST
def payment(request: HttpRequest) -> JsonResponse:
    """Add what the provider was paid to the customer's wallet."""
    if not is_signed(request):
        return JsonResponse({"detail": "The signature is wrong."}, status=401)
    form = PaymentEventForm(read(request))
    if not form.is_valid():
        return JsonResponse(form.errors.get_json_data(), status=400)
    event = form.cleaned_data

    def credit() -> dict[str, str]:
        # An unknown customer is 404, and what is raised is not stored: the next delivery looks again.
        wallet = get_object_or_404(Wallet, user__username=event["customer"])
        wallet.deposit(event["amount"])
        faults.strike(request)
        return {"balance": str(wallet.balance)}

    try:
        return JsonResponse(execute_once(credit, key=event["id"], scope="provider payments"))
    except (InProgress, StoreUnavailable) as error:  # no 2xx: the provider delivers it again
        return JsonResponse({"detail": error.detail}, status=503, headers={"Retry-After": "1"})


def is_signed(request: HttpRequest) -> bool:
    """Tell whether the body is the provider's, byte for byte."""
    sent = request.headers.get(SIGNATURE, "")
    return hmac.compare_digest(sent.encode(), signature(request.body).encode())


def signature(body: bytes) -> str:
    """Return the provider's signature of a body: HMAC with SHA-256, in hex."""
    return hmac.new(settings.WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()


def read(request: HttpRequest) -> dict[str, Any]:
    """Return the request's JSON object, or an empty one for anything else."""
    try:
        data = json.loads(request.body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


urlpatterns = [path("payments/", payment, name="webhook")]
