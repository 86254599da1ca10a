"""The DRF door: put ``IdempotencyMixin`` in front of an APIView, a generic view or a ViewSet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from django_idempotency.claims.registry import record_alias
from django_idempotency.conf import conf
from django_idempotency.http import is_stored, raw_key
from django_idempotency.rest_framework.guard import GuardedCall
from django_idempotency.rest_framework.payloads import payload_of
from django_idempotency.scopes import ANONYMOUS, user_principal

if TYPE_CHECKING:
    from rest_framework.views import APIView as _Base
else:
    _Base = object


class RecordAlias(set[str]):
    """The aliases for which Django must not open ATOMIC_REQUESTS' transaction: the records' alias, on access."""

    def __contains__(self, alias: object) -> bool:
        return super().__contains__(alias) or alias == record_alias()


class IdempotencyMixin(_Base):
    """Makes POST and PATCH take effect once per ``Idempotency-Key``, and gives every retry the first answer.

    The claim is made after the whole of ``initial()``, so authentication, permissions and throttles speak before
    a replay as they did before the first run. Record and writes are committed together by a transaction that the
    mixin opens on the records' alias; answers that are not stored leave no effect. The class attributes override the
    setting of the same name; None means the setting decides.
    """

    idempotency_required: bool | None = None
    idempotency_methods: Sequence[str] | None = None
    idempotency_retention: float | timedelta | None = None
    idempotency_ignore_fields: Sequence[str] | None = None
    idempotency_store_body: bool | None = None

    @classmethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Return the view, marked so that the mixin's transaction takes the place of ATOMIC_REQUESTS' own."""
        view: Any = super().as_view(*args, **initkwargs)
        view._non_atomic_requests = RecordAlias(getattr(view, "_non_atomic_requests", ()))
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Guard the handler if the request is one to guard; ``super().dispatch()`` does all the rest."""
        using = record_alias()
        atomic_requests = bool(connections[using].settings_dict["ATOMIC_REQUESTS"])
        if self._may_be_keyed(request):
            GuardedCall(self, using, atomic_requests=atomic_requests).install(request)
        elif atomic_requests:
            with transaction.atomic(using=using):
                return super().dispatch(request, *args, **kwargs)
        return super().dispatch(request, *args, **kwargs)

    def get_idempotency_key(self, request: Request) -> str | None:
        """Return the raw key that a request carries, or None; override it to read a field of the body."""
        return raw_key(request._request)

    def get_idempotency_scope(self, request: Request) -> str:
        """Return the principal in whose name the key counts; the route is always added."""
        scope = conf.hook("SCOPE")
        if scope is not None:
            return str(scope(request))
        return user_principal(request.user, request._request) or ANONYMOUS

    def get_idempotency_fingerprint(self, request: Request) -> str:
        """Return what tells one payload from another; method and path always count beside it."""
        fingerprint = conf.hook("FINGERPRINT")
        if fingerprint is not None:
            return str(fingerprint(request))
        return payload_of(request, conf.prefer(self.idempotency_ignore_fields, "FINGERPRINT_IGNORE")).digest

    def should_store_response(self, response: HttpResponseBase) -> bool:
        """Tell whether an answer is stored and its effects kept; else both go, and a retry runs again."""
        return is_stored(response)

    def authorize_idempotent_replay(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check object permissions again before a replay: raise PermissionDenied or Http404 to withhold the answer.

        ``initial()`` has run; override this where the handler itself calls ``check_object_permissions()``.
        """

    def _may_be_keyed(self, request: HttpRequest) -> bool:
        """Tell whether the handler is to be guarded; where an overridden hook finds keys, only it can tell."""
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            return False
        if method.upper() not in conf.prefer(self.idempotency_methods, "METHODS"):
            return False
        hooked = type(self).get_idempotency_key is not IdempotencyMixin.get_idempotency_key
        return hooked or conf.prefer(self.idempotency_required, "REQUIRED") or raw_key(request) is not None
