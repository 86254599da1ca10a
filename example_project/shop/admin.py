"""The shop's tables in the admin."""

from django.contrib import admin

from example_project.shop.models import Order, Payment, Product, Receipt, Wallet

admin.site.register(Product, list_display=["name", "price", "stock"])
admin.site.register(Order, list_display=["id", "user", "product", "quantity", "paid_at", "created_at"])
admin.site.register(Payment, list_display=["id", "order", "amount", "accepted"])
admin.site.register(Wallet, list_display=["user", "balance"])
admin.site.register(Receipt, list_display=["id", "user", "title", "name", "size", "created_at"])
