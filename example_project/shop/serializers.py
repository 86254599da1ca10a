"""What the shop's API takes and gives."""

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from example_project.shop.models import Order, Payment, Receipt, Wallet


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order; the customer is the caller, never a field."""

    quantity = serializers.IntegerField(min_value=1, max_value=1000, default=1)
    total = serializers.DecimalField(max_digits=12, decimal_places=2, read_only=True)

    class Meta:
        model = Order
        fields = ["id", "product", "quantity", "note", "total", "paid_at", "created_at"]

    def create(self, validated_data: dict[str, Any]) -> Order:
        """Place the order."""
        return Order.place(**validated_data)

    def update(self, instance: Order, validated_data: dict[str, Any]) -> Order:
        """Replace the order as a whole: a note that is not sent is a note that is gone."""
        instance.change(note=validated_data.pop("note", ""), **validated_data)
        return instance


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    """A payment, accepted or declined."""

    class Meta:
        model = Payment
        fields = ["id", "order", "amount", "accepted"]


class WalletSerializer(serializers.ModelSerializer[Wallet]):
    """The caller's balance."""

    class Meta:
        model = Wallet
        fields = ["balance"]


class DepositSerializer(serializers.Serializer[Any]):
    """An amount to add to a wallet."""

    amount = serializers.DecimalField(max_digits=8, decimal_places=2, min_value=Decimal("0.01"))


class ReceiptSerializer(serializers.ModelSerializer[Receipt]):
    """A receipt: the file goes in, its name, size and digest come out."""

    file = serializers.FileField(write_only=True)

    class Meta:
        model = Receipt
        fields = ["id", "title", "file", "name", "size", "digest", "created_at"]
        read_only_fields = ["name", "size", "digest"]

    def create(self, validated_data: dict[str, Any]) -> Receipt:
        """Record the file."""
        return Receipt.record(**validated_data)
