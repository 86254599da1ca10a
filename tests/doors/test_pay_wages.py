"""The command of the example shop, run as often as somebody is in doubt; ``test_kills.py`` kills it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.conftest import Parallel
from tests.doors.live import Customer, Pause

pytestmark = pytest.mark.django_db(transaction=True)


def pay(run_id: str = "2026-11", amount: str = "5.00", **options: Any) -> str:
    printed = io.StringIO()
    call_command("pay_wages", run_id=run_id, amount=amount, stdout=printed, **options)
    return printed.getvalue()


def test_run_that_is_started_twice_pays_once_and_says_the_same() -> None:
    customers = [Customer(), Customer()]
    first = pay()
    customers.append(Customer())
    assert first == pay() == "Run 2026-11: 5.00 for each of 2 wallets.\n"
    assert [customer.deposits() for customer in customers] == [1, 1, 0]
    assert pay("2026-12") == "Run 2026-12: 5.00 for each of 3 wallets.\n"


def test_run_with_another_amount_is_refused() -> None:
    customer = Customer()
    pay()
    with pytest.raises(CommandError, match="Run 2026-11 paid another amount: choose another --run-id"):
        pay(amount="7.00")
    assert (customer.deposits(), pay(amount="5")) == (1, "Run 2026-11: 5.00 for each of 1 wallets.\n")


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "five", "1e9", "1.005", ""])
def test_amount_that_is_none_is_refused(amount: str) -> None:
    with pytest.raises(CommandError, match="give an amount of money, for example"):
        pay(amount=amount)


def test_run_id_that_is_no_key_is_refused() -> None:
    with pytest.raises(CommandError, match="visible ASCII"):
        pay("November, 2026 ü")


@pytest.mark.vendors("postgresql", "mysql")
def test_run_that_is_still_going_is_left_alone(settings: Any, parallel: Parallel, pause: Pause) -> None:
    settings.SHOP_FAULTS = True
    customer = Customer()
    first = parallel.start(lambda: pay(fault=pause.fault))
    pause.pid()
    with pytest.raises(CommandError, match="still running"):
        pay()
    pause.end()
    assert first() == pay()
    assert customer.deposits() == 1
