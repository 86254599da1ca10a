"""What the shop keeps, and what can be done with it.

Every method that moves money or goods is an effect that a retried request must not have twice. No unique
constraint hides a second one: ``Order.objects.count()`` tells how often an order was placed.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.core.files.uploadedfile import UploadedFile


class RefusedError(Exception):
    """The shop says no, and nothing was changed; the message is for the customer."""


class Product(models.Model):
    """Something on the shelf."""

    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name

    def take(self, quantity: int) -> None:
        """Take ``quantity`` off the shelf in one statement: two customers never get the same last one.

        Raises ``RefusedError`` when fewer are left.
        """
        enough = Product.objects.filter(pk=self.pk, stock__gte=quantity)
        if not enough.update(stock=F("stock") - quantity):
            raise RefusedError(f"Fewer than {quantity} left of {self.name}.")

    def put_back(self, quantity: int) -> None:
        """Put ``quantity`` back on the shelf."""
        Product.objects.filter(pk=self.pk).update(stock=F("stock") + quantity)


class Wallet(models.Model):
    """A customer's money."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    balance = models.DecimalField(max_digits=12, decimal_places=2, default=Decimal("0.00"))

    def __str__(self) -> str:
        return f"{self.user}: {self.balance}"

    def deposit(self, amount: Decimal) -> None:
        """Add ``amount`` in one statement; done twice, it adds twice."""
        Wallet.objects.filter(pk=self.pk).update(balance=F("balance") + amount)
        self.refresh_from_db()

    async def adeposit(self, amount: Decimal) -> None:
        """Do the same with async calls."""
        await Wallet.objects.filter(pk=self.pk).aupdate(balance=F("balance") + amount)
        await self.arefresh_from_db()

    def withdraw(self, amount: Decimal) -> bool:
        """Take ``amount`` in one statement and tell whether there was enough."""
        enough = Wallet.objects.filter(pk=self.pk, balance__gte=amount)
        return bool(enough.update(balance=F("balance") - amount))


class Order(models.Model):
    """A customer's order of one product."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="orders")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(default=1)
    note = models.CharField(max_length=200, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product}"

    @property
    def total(self) -> Decimal:
        """What the order costs."""
        return self.product.price * self.quantity

    @classmethod
    @transaction.atomic
    def place(cls, user: User, product: Product, quantity: int = 1, note: str = "") -> Order:
        """Take the goods off the shelf and write the order down; raises ``RefusedError`` for too few left."""
        product.take(quantity)
        return cls.objects.create(user=user, product=product, quantity=quantity, note=note)

    @transaction.atomic
    def change(self, product: Product, quantity: int, note: str) -> None:
        """Replace what was ordered; raises ``RefusedError`` when it is paid for, or too few are left."""
        self._lock_unpaid()
        self.product.put_back(self.quantity)
        product.take(quantity)
        self.product, self.quantity, self.note = product, quantity, note
        self.save()

    @transaction.atomic
    def cancel(self) -> None:
        """Put the goods back and delete the order; raises ``RefusedError`` when it is paid for."""
        self._lock_unpaid()
        self.product.put_back(self.quantity)
        self.delete()

    @transaction.atomic
    def pay(self) -> Payment:
        """Charge the customer's wallet; raises ``RefusedError`` when it is paid for already.

        Too little money is an answer, not an error: the payment is written down as not accepted.
        """
        self._lock_unpaid()
        wallet, _ = Wallet.objects.get_or_create(user=self.user)
        accepted = wallet.withdraw(self.total)
        if accepted:
            self.paid_at = timezone.now()
            self.save(update_fields=["paid_at"])
        return Payment.objects.create(order=self, amount=self.total, accepted=accepted)

    def _lock_unpaid(self) -> None:
        # Two requests that pay or change one order take turns here, and the second sees what the first did.
        self.refresh_from_db(from_queryset=Order.objects.select_for_update())
        if self.paid_at:
            raise RefusedError("This order is paid for already.")


class Payment(models.Model):
    """An attempt to pay for an order, accepted or declined."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="payments")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    accepted = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"{self.amount} for {self.order}"


class Receipt(models.Model):
    """A file that a customer sent in; of the file itself only its digest and size are kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="receipts")
    title = models.CharField(max_length=100)
    name = models.CharField(max_length=255)
    size = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.title

    @classmethod
    def record(cls, user: User, title: str, file: UploadedFile[Any]) -> Receipt:
        """Read the file once, in chunks, and keep its SHA-256 in hex and its size in bytes."""
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        return cls.objects.create(
            user=user, title=title, name=file.name or "", size=file.size or 0, digest=digest.hexdigest()
        )
