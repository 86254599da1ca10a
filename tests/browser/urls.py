"""One form behind both doors for forms."""

from django.urls import path

from django_idempotency.decorators import idempotent
from tests.browser import views

DOORS = {"decorated": idempotent(views.order), "site": views.order}

urlpatterns = [
    path("drf/", views.SlowProducts.as_view()),
    path("done/<int:pk>/", views.done, name="done"),
    *(path(f"{name}/<str:answer>/", view) for name, view in DOORS.items()),
    *(path(f"{name}/own-url/<str:answer>/", view, {"action": "?send"}) for name, view in DOORS.items()),
]
