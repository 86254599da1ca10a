"""Where the shop's doors are."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.views import serve
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="order")),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("login/", LoginView.as_view(template_name="shop/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("api/", include("example_project.shop.api")),
    path("plain/", include("example_project.shop.plain")),
    path("shop/", include("example_project.shop.site")),
    path("webhooks/", include("example_project.shop.webhooks")),
    # With DEBUG off, too, since this is a shop window: a real site's web server does it.
    path("static/<path:path>", serve, {"insecure": True}),
]
