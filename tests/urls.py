"""The shop, and views that misbehave on request."""

from django.contrib import admin
from django.urls import include, path

from tests.views import AnyView, EchoView, FormView, NestedView, OwnedView, PlainView, ProbeView, UploadView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("example_project.shop.api")),
    path("probe/<str:act>/", ProbeView.as_view(), name="probe"),
    path("owned/<int:pk>/", OwnedView.as_view(), name="owned"),
    path("upload/", UploadView.as_view(), name="upload"),
    path("form/", FormView.as_view(), name="form"),
    path("any/", AnyView.as_view(), name="any"),
    path("any/<path:rest>", AnyView.as_view()),
    path("echo/", EchoView.as_view(), name="echo"),
    path("nested/", NestedView.as_view(), name="nested"),
    path("plain/", PlainView.as_view(), name="plain"),
]
