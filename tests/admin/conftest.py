"""Whoever looks at the pages of the admin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.test import Client

from tests.factories import UserFactory


@pytest.fixture(autouse=True)
def no_charts_of_another_test() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def staff(client: Client) -> Callable[..., Client]:
    """Return a client logged in as staff with these permissions and no other."""

    def login(*actions: str) -> Client:
        user = UserFactory(is_staff=True)
        wanted = [f"{action}_idempotencyrecord" for action in actions]
        user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
        client.force_login(user)
        return client

    return login
