"""The shop's door for Celery; ``background.py`` has the one for Django's own tasks.

A queue delivers at least once, and with ``acks_late`` again when a worker was killed: that is how nothing is lost.
``@idempotent_function`` is why nothing happens twice. The voucher is the key: whoever sends it, and however often.
"""

from decimal import Decimal

from celery import shared_task

from django_idempotency.decorators import idempotent_function
from django_idempotency.exceptions import InProgress, StoreUnavailable
from example_project.shop import faults
from example_project.shop.models import Wallet


@shared_task(
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(InProgress, StoreUnavailable),  # another worker is at it, or the database is away
    retry_backoff=1,
    retry_backoff_max=60,
    max_retries=20,
)
@idempotent_function(key=lambda voucher, *args, **kwargs: voucher, scope="redeem voucher")
def redeem(voucher: str, customer: str, amount: str, fault: str = "") -> str:
    """Add a voucher's amount to a customer's wallet and return the balance, the same for each delivery."""
    wallet = Wallet.objects.get(user__username=customer)
    wallet.deposit(Decimal(amount))
    faults.occur(fault)
    return str(wallet.balance)
