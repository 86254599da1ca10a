"""What the shop takes from people and plain requests."""

from decimal import Decimal

from django import forms

from example_project.shop.models import Order


class OrderForm(forms.ModelForm):
    """What to order."""

    quantity = forms.IntegerField(min_value=1, max_value=1000, initial=1)

    class Meta:
        model = Order
        fields = ["product", "quantity", "note"]


class DepositForm(forms.Form):
    """An amount to add to a wallet."""

    amount = forms.DecimalField(max_digits=8, decimal_places=2, min_value=Decimal("0.01"))


class PaymentEventForm(DepositForm):
    """What the payment provider reports: who paid, how much, and the event's own id."""

    id = forms.SlugField(max_length=100)
    customer = forms.CharField(max_length=150)
