"""The shop's door for people: ordinary forms, and one line in MIDDLEWARE.

``IdempotencyMiddleware`` stands last in MIDDLEWARE, and ``MIDDLEWARE_PATHS`` names ``/shop/``. The page has
``{% idempotency_key %}`` in its form: a double click, a reload or the back button places one order and shows the first
result. Nothing in the views knows of it, neither in Django's nor in the one of Django REST framework, and what
``dispatch()`` and ``initial()`` check is checked before a replay too.
"""

from django.contrib.auth.mixins import LoginRequiredMixin
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.generic import DetailView, FormView
from rest_framework.generics import CreateAPIView
from rest_framework.serializers import BaseSerializer

from example_project.shop import faults
from example_project.shop.api import refusals_as_400
from example_project.shop.forms import OrderForm
from example_project.shop.models import Order, RefusedError
from example_project.shop.serializers import OrderSerializer


class OrderPage(LoginRequiredMixin, FormView):
    """The form: a good one leads to the page of the order, one with errors is shown again with a new key."""

    form_class = OrderForm
    template_name = "shop/order_form.html"

    def form_valid(self, form: OrderForm) -> HttpResponse:
        """Place the order."""
        customer = self.request.user
        assert customer.is_authenticated
        try:
            order = Order.place(customer, **form.cleaned_data)
        except RefusedError as refusal:
            form.add_error(None, str(refusal))
            return self.form_invalid(form)
        faults.strike(self.request)
        return redirect("order-placed", order.pk)


class OrderPlacedPage(LoginRequiredMixin, DetailView):
    """What was ordered; other customers' orders are not found."""

    template_name = "shop/order_placed.html"

    def get_queryset(self) -> QuerySet[Order]:
        """Show the customer's own orders only."""
        return Order.objects.filter(user=self.request.user.pk).select_related("product")


class OrderAPI(CreateAPIView[Order]):
    """A view of Django REST framework without a word about idempotency: the middleware guards it from inside."""

    serializer_class = OrderSerializer

    def perform_create(self, serializer: BaseSerializer[Order]) -> None:
        """Place the order."""
        with refusals_as_400():
            serializer.save(user=self.request.user)
        faults.strike(self.request)


urlpatterns = [
    path("", OrderPage.as_view(), name="order"),
    path("orders/<int:pk>/", OrderPlacedPage.as_view(), name="order-placed"),
    path("api/orders/", OrderAPI.as_view(), name="site-api"),
]
