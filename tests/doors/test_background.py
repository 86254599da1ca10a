"""Django's own tasks, where Django has them: see ``conftest.py``."""

from __future__ import annotations

import pytest
from django.tasks import TaskResultStatus

from django_idempotency.models import IdempotencyRecord
from example_project.shop.background import redeem
from tests.doors.live import Customer
from tests.factories import WalletFactory

pytestmark = pytest.mark.django_db(transaction=True)


def test_task_that_runs_twice_takes_effect_once_and_returns_the_same() -> None:
    customer = Customer()
    results = [redeem.enqueue("voucher", customer.user.username, "5.00") for _ in range(2)]
    assert [result.status for result in results] == [TaskResultStatus.SUCCESSFUL] * 2
    assert [result.return_value for result in results] == ["5.00", "5.00"]
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 1


def test_task_that_fails_leaves_nothing_and_runs_again() -> None:
    assert redeem.enqueue("voucher", "later", "5.00").status == TaskResultStatus.FAILED
    assert IdempotencyRecord.objects.completed().count() == 0
    WalletFactory(user__username="later", balance="0.00")
    assert redeem.enqueue(voucher="voucher", customer="later", amount="5.00").return_value == "5.00"
