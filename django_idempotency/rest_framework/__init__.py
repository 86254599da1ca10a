from django_idempotency.rest_framework.mixins import IdempotencyMixin

__all__ = ["IdempotencyMixin"]
