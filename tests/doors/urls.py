"""Every door, each with a view that has one effect."""

from django.urls import path

from django_idempotency.decorators import idempotent
from tests.contrib.ninja_urls import api, callback
from tests.doors import views
from tests.views import ProbeView

DOORS = {
    "mixin": ProbeView.as_view(),
    "function": idempotent(views.plain),
    "async-function": idempotent(views.aplain),
    "handler": views.Handler.as_view(),
    "method-decorator": views.ByMethodDecorator.as_view(),
    "as-view": idempotent(views.Plain.as_view()),
    "async-as-view": idempotent(views.Async.as_view()),
    "async-handler": views.AsyncHandler.as_view(),
    "drf-handler": views.ApiHandler.as_view(),
    "drf-as-view": idempotent(views.Api.as_view()),
    "above-api-view": idempotent(views.api_function(lambda view: view)),
    "below-api-view": views.api_function(idempotent),
    "action-below": views.ApiSet.as_view({"post": "below"}),
    "action-above": views.ApiSet.as_view({"post": "above"}),
    "mixin-and-action": views.GuardedSet.as_view({"post": "below"}),
    "mixin-and-decorator": idempotent(views.GuardedSet.as_view({"post": "create"})),
    "ninja": callback(api, "act/<act>"),
    "async-ninja": callback(api, "async-act/<act>"),
}
UNDER_MIDDLEWARE = {
    "site-function": views.plain,
    "site-async-function": views.aplain,
    "site-class": views.Plain.as_view(),
    "site-async-class": views.Async.as_view(),
    "site-drf": views.Api.as_view(),
    "site-viewset": views.ApiSet.as_view({"post": "create"}),
    "site-api-view": views.api_function(lambda view: view),
    "site-mixin": ProbeView.as_view(),
    "site-decorated": idempotent(views.plain),
}

urlpatterns = [
    path(f"{folder}{name}/<str:act>/", view, name=name)
    for folder, doors in (("doors/", DOORS), ("site/", UNDER_MIDDLEWARE))
    for name, view in doors.items()
]
