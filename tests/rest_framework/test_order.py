"""Where the mixin stands among the bases: behind a view's ``dispatch()`` it would guard nothing, without a word."""

from __future__ import annotations

from typing import Any

import pytest
from django.views import View
from rest_framework.generics import CreateAPIView
from rest_framework.mixins import CreateModelMixin
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet, ViewSetMixin

from django_idempotency.options import Options
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.rest_framework.inside import RestFramework

pytestmark = pytest.mark.once


class Logged:
    """A mixin of a project, which goes on to whatever stands behind it."""

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(*args, **kwargs)  # type: ignore[misc]

    def initialize_request(self, *args: Any, **kwargs: Any) -> Any:
        return super().initialize_request(*args, **kwargs)  # type: ignore[misc]


class Audited(Logged, APIView):
    """A base class of a project."""


class Own(Logged, IdempotencyMixin):
    """A project's own mixin over ours."""


class Guarded(IdempotencyMixin, APIView):
    """A guarded base class of a project."""


@pytest.mark.parametrize(
    "bases",
    [
        (ModelViewSet, IdempotencyMixin),
        (APIView, IdempotencyMixin),
        (View, IdempotencyMixin),
        (CreateModelMixin, GenericViewSet, IdempotencyMixin),
        (Audited, IdempotencyMixin),
        (CreateAPIView, Own),
    ],
)
def test_mixin_behind_the_view_is_refused_with_the_order_that_is_right(bases: tuple[type, ...]) -> None:
    with pytest.raises(
        TypeError, match=r"Payments: IdempotencyMixin goes first: class Payments\(Idem"
    ) as told:
        type("Payments", bases, {})
    named = next(each for each in bases if issubclass(each, View)).__name__
    assert f"(IdempotencyMixin, {named}, …)" in str(told.value)


@pytest.mark.parametrize(
    "bases",
    [
        (IdempotencyMixin, ModelViewSet),
        (CreateModelMixin, IdempotencyMixin, GenericViewSet),
        (Logged, IdempotencyMixin, APIView),
        (Audited, IdempotencyMixin, APIView),
        (Audited, Guarded),
        (CreateAPIView, Guarded),
        (Own, Audited),
        (Guarded,),
        (Own,),
        (IdempotencyMixin,),
        (IdempotencyMixin, ViewSetMixin, APIView),
    ],
)
def test_mixin_in_front_of_the_view_is_taken(bases: tuple[type, ...]) -> None:
    """Composed, inherited, and behind classes that hand the call on."""
    made = type("Payments", bases, {})
    assert type("Refunds", (made,), {"dispatch": Logged.dispatch}).__mro__[1] is made


def test_class_that_goes_by_the_name_of_a_view_is_no_view() -> None:
    """The middleware guards a view by a subclass that keeps its name."""
    assert issubclass(RestFramework().subclass(APIView, Options()), IdempotencyMixin)
