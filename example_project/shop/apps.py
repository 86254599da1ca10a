"""The shop as a Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """A small shop, made to be copied from."""

    name = "example_project.shop"
    label = "shop"
