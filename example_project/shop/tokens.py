"""Who calls a plain view: the owner of the token that the API takes too."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

View = Callable[..., Any]


def token_required(view: View) -> View:
    """Set ``request.user`` to the owner of ``Authorization: Token …``, or answer 401; for sync and async views."""

    @wraps(view)
    def door(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        owner = _owners(request).first()
        return view(_as(request, owner), *args, **kwargs) if owner else _refused()

    @wraps(view)
    async def adoor(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        owner = await _owners(request).afirst()
        return await view(_as(request, owner), *args, **kwargs) if owner else _refused()

    return adoor if iscoroutinefunction(view) else door


def _owners(request: HttpRequest) -> QuerySet[User]:
    token = request.headers.get("Authorization", "").removeprefix("Token ")
    # A NUL is in no token, and PostgreSQL takes none in a query.
    return User.objects.filter(auth_token=token.replace("\0", ""), is_active=True)


def _as(request: HttpRequest, owner: User) -> HttpRequest:
    request.user = owner
    return request


def _refused() -> JsonResponse:
    return JsonResponse({"detail": "Send Authorization: Token …"}, status=401)
