"""The sharded project's views: a DRF view with the mixin, and a plain one behind the middleware."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.views import ProbeView, effect


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(effect()), status=201)


urlpatterns = [
    path("probe/<str:act>/", ProbeView.as_view()),
    path("plain/", plain),
]
