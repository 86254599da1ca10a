"""The shop's door for Django's own tasks, of Django 6.0 and newer; ``tasks.py`` has the one for Celery.

``@task`` stands above ``@idempotent_function``: each run of the task then goes through the door, whichever backend
runs it and however often.
"""

from decimal import Decimal

from django.tasks import task

from django_idempotency.decorators import idempotent_function
from example_project.shop.models import Wallet


@task
@idempotent_function(key=lambda voucher, *args, **kwargs: voucher, scope="redeem voucher")
def redeem(voucher: str, customer: str, amount: str) -> str:
    """Add a voucher's amount to a customer's wallet and return the balance, the same for each run."""
    wallet = Wallet.objects.get(user__username=customer)
    wallet.deposit(Decimal(amount))
    return str(wallet.balance)
