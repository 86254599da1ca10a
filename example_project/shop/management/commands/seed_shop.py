"""Fill the shop: products, and two customers who can be played with at once, in a browser and by their tokens."""

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from rest_framework.authtoken.models import Token

from example_project.shop.models import Product, Wallet

PRODUCTS = {"Teapot": "19.90", "Cup": "4.50", "Green tea, 100 g": "7.20"}
CUSTOMERS = ["alice", "bob"]
FORM = "{url}/shop/ is the order form: click twice, reload, go back and submit it again"
CURL = """\
curl -i {url}/api/orders/ \\
     -H 'Authorization: Token {token}' -H 'Idempotency-Key: my-first-order' \\
     -H 'Content-Type: application/json' -d '{{"product": {product}, "quantity": 2}}'"""


class Command(BaseCommand):
    """Run it as often as you like: what is there already is left as it is."""

    help = "Create demo products, customers, tokens and wallets, and print how to use them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ``--admin`` and ``--url``."""
        parser.add_argument("--admin", action="store_true", help="create admin/admin without DEBUG too")
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the shop is served")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Seed everything in one transaction."""
        products = [seed_product(name, Decimal(price)) for name, price in PRODUCTS.items()]
        tokens = [seed_customer(name) for name in CUSTOMERS]
        for name, token in zip(CUSTOMERS, tokens, strict=True):
            self.stdout.write(f"{name}: password {name}, Token {token}")
        if settings.DEBUG or options["admin"]:
            seed_admin()
            self.stdout.write("admin: password admin at /admin/")
        self.stdout.write(FORM.format(url=options["url"]))
        self.stdout.write(CURL.format(url=options["url"], token=tokens[0], product=products[0].pk))


def seed_product(name: str, price: Decimal) -> Product:
    """Return the product of that name, plenty of it when it is new."""
    return Product.objects.get_or_create(name=name, defaults={"price": price, "stock": 1000})[0]


def seed_customer(name: str) -> str:
    """Return the customer's token; a new customer's password is the name, and 100.00 are in the wallet."""
    user, created = User.objects.get_or_create(username=name)
    if created:
        user.set_password(name)
        user.save()
    Wallet.objects.get_or_create(user=user, defaults={"balance": Decimal("100.00")})
    token, _ = Token.objects.get_or_create(user=user, defaults={"key": f"{name}-demo-token"})
    return str(token.key)


def seed_admin() -> None:
    """Create the superuser unless there is one of that name."""
    if not User.objects.filter(username="admin").exists():
        User.objects.create_superuser("admin", password="admin")
