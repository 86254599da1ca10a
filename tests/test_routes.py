"""Paths of MIDDLEWARE_PATHS held against the URL patterns: a slip of the pen guards nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.conf import settings as project
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import URLPattern, include, path, re_path
from django.utils.translation import gettext_lazy

from django_idempotency.door_checks import MIDDLEWARE, check_paths

pytestmark = pytest.mark.once


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Own(URLPattern):
    """A project's own kind of pattern, which may match whatever it likes."""


def guarded(*paths: str) -> AbstractContextManager[Any]:
    return override_settings(
        MIDDLEWARE=[*project.MIDDLEWARE, MIDDLEWARE], IDEMPOTENCY={"MIDDLEWARE_PATHS": list(paths)}
    )


OWN = Own(path("own/", view).pattern, view)
LANGUAGES = i18n_patterns(path("shop/", view))
TRANSLATED = path(gettext_lazy("shop/"), view)


@pytest.mark.parametrize(
    ("patterns", "reached", "missed"),
    [
        (
            [path("", view), path("api/pay/", view)],
            ["/", "/api", "/api/", "/api/pay/"],
            ["/apii/", "/ap/", "/app/api/"],
        ),
        ([path("api/", include([path("pay/", view)]))], ["/api/pay/"], ["/api/refund/", "/pay/"]),
        ([path("api/<int:pk>/pay/", view)], ["/api/", "/api/7/pay/"], ["/apii/", "/7/"]),
        ([re_path(r"^apis?/pay/$", view)], ["/api/", "/apis/pay/"], ["/ap/", "/shop/"]),
        (
            [re_path(r"^api/pay/$", view), re_path(r"^v1/", view)],
            ["/api/pay/", "/v1/x/"],
            ["/api/pays/", "/v2/"],
        ),
        ([re_path(r"^api/", include([re_path(r"^pay/$", view)]))], ["/api/", "/api/pay/"], ["/pay/"]),
        ([re_path(r"pay/$", view)], ["/pay/", "/anywhere/"], []),
        ([re_path(r"^api/$|^shop/$", view)], ["/shop/", "/anywhere/"], []),
        (LANGUAGES, ["/de/shop/", "/shop/", "/en-us/shop/"], []),
        ([TRANSLATED], ["/laden/"], []),
        ([OWN], ["/anywhere/"], []),
        ([path("api/", include([TRANSLATED]))], ["/api/laden/"], ["/shop/"]),
    ],
)
def test_w004_path_that_no_url_is_under(patterns: list[Any], reached: list[str], missed: list[str]) -> None:
    """A path that only a request could tell of is no finding."""
    with (
        guarded(*reached, *missed),
        override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": patterns})),
    ):
        told = check_paths(None)
    assert {message.id for message in told} <= {"django_idempotency.W004"}
    assert [path for path in missed if not any(repr(path) in message.msg for message in told)] == []
    assert len(told) == len(missed)


def test_w004_is_silent_where_a_host_or_a_tenant_has_urls_of_its_own() -> None:
    with guarded("/apii/"):
        assert [message.id for message in check_paths(None)] == ["django_idempotency.W004"]
        with override_settings(ROOT_HOSTCONF="project.hosts"):
            assert check_paths(None) == []
    with override_settings(IDEMPOTENCY={"MIDDLEWARE_PATHS": ["/apii/"]}):
        assert check_paths(None) == []
