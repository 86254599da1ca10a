"""Pay everybody's wages: the shop's door for what cron or a person starts, and starts again."""

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import F

from django_idempotency.exceptions import FingerprintMismatch, IdempotencyError
from django_idempotency.execution import execute_once
from example_project.shop import faults
from example_project.shop.forms import DepositForm
from example_project.shop.models import Wallet


class Command(BaseCommand):
    """The id of the run is the key: killed or doubted, the same command is simply started again."""

    help = "Add an amount to every wallet, once per run id, and say how many were paid."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the run's id and the amount."""
        parser.add_argument("--run-id", required=True, help="what is paid for, for example 2026-11")
        parser.add_argument("--amount", required=True, help="what each wallet gets, for example 12.50")
        if settings.SHOP_FAULTS:
            parser.add_argument("--fault", default="", help="an accident of shop/faults.py")

    def handle(self, *args: Any, run_id: str, amount: str, fault: str = "", **options: Any) -> None:
        """Pay once, and say the same each time."""
        wage = money(amount)

        def pay() -> int:
            paid = Wallet.objects.update(balance=F("balance") + wage)
            faults.occur(fault)
            return paid

        try:
            paid = execute_once(pay, key=run_id, scope="pay wages", fingerprint=f"{wage:.2f}")
        except FingerprintMismatch as error:
            raise CommandError(f"Run {run_id} paid another amount: choose another --run-id.") from error
        except IdempotencyError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Run {run_id}: {wage:.2f} for each of {paid} wallets.")


def money(amount: str) -> Decimal:
    """Return an amount of money; raise CommandError for anything else."""
    form = DepositForm({"amount": amount})
    if not form.is_valid():
        raise CommandError(f"--amount is {amount!r}: give an amount of money, for example 12.50.")
    return Decimal(form.cleaned_data["amount"])
