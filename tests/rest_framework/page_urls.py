"""Views with the browsable API, as a person meets them who has logged in on the site."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, renderer_classes
from rest_framework.generics import ListCreateAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.rest_framework.renderers import BrowsableAPIRenderer
from example_project.shop.models import Product
from tests.views import PlainView, effect


class ProductSerializer(ModelSerializer[Product]):
    class Meta:
        model = Product
        fields = ["id", "name", "price", "stock"]


class Unguarded(ListCreateAPIView[Product]):
    queryset = Product.objects.order_by("pk")
    serializer_class = ProductSerializer
    authentication_classes = (SessionAuthentication,)
    renderer_classes = (JSONRenderer, BrowsableAPIRenderer)


class Products(IdempotencyMixin, Unguarded):
    def patch(self, request: Request) -> Response:
        return Response({"id": effect()})


class Exempt(Products):
    @idempotency_exempt
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)


@api_view(["POST"])
@authentication_classes([SessionAuthentication])
@renderer_classes([JSONRenderer, BrowsableAPIRenderer])
@idempotent
def function(request: Request) -> Response:
    return Response({"id": effect()}, status=201)


urlpatterns = [
    path("products/", Products.as_view()),
    path("decorated/", idempotent(Unguarded.as_view())),
    path("unguarded/", Unguarded.as_view()),
    path("exempt/", Exempt.as_view()),
    path("function/", function),
    path("raw/", PlainView.as_view(renderer_classes=[BrowsableAPIRenderer])),
]
