"""The DRF door: put ``IdempotencyMixin`` in front of an APIView, a generic view or a ViewSet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from django_idempotency.calls import is_active
from django_idempotency.class_views import handler_options, told
from django_idempotency.early import early_of
from django_idempotency.guards import atomic_by_door
from django_idempotency.options import EXEMPT, Options
from django_idempotency.rest_framework.guard import GuardedCall
from django_idempotency.rest_framework.hooks import IdempotencyHooks, TunedHooks, may_be_keyed

#: The views whose ``dispatch()`` calls no ``super()``; by name, since DRF's are not imported here.
_OUTERMOST = {"django.views.generic.base.View", "rest_framework.views.APIView"}

if TYPE_CHECKING:
    from rest_framework.views import APIView as _Base
else:
    _Base = object


class IdempotencyMixin(IdempotencyHooks, _Base):
    """Makes POST and PATCH take effect once per ``Idempotency-Key``, and gives every retry the first answer.

    The claim is made after the whole of ``initial()``, so authentication, permissions and throttles speak before
    a replay as they did before the first run. Record and writes are committed together by a transaction that the
    mixin opens on the records' alias; answers that are not stored leave no effect. The class attributes override the
    setting of the same name, and ``@idempotent`` on a handler overrides both for that handler; None means the
    setting decides.
    """

    _idempotency_guarded = True
    _idempotency_options: Options | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class whose ``dispatch()`` never gets as far as the mixin's: nothing would be guarded."""
        super().__init_subclass__(**kwargs)
        before = cls.__mro__[: cls.__mro__.index(IdempotencyMixin)]
        if any(_name_of(each) in _OUTERMOST for each in before if not issubclass(each, IdempotencyMixin)):
            view = next(each.__name__ for each in cls.__bases__ if issubclass(each, View))
            raise TypeError(
                f"{cls.__qualname__}: IdempotencyMixin goes first: "
                f"class {cls.__name__}(IdempotencyMixin, {view}, …)."
            )

    @classmethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Return the view, which opens ATOMIC_REQUESTS' transaction itself; a claim ends it."""
        return atomic_by_door(super().as_view(*args, **initkwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Guard the handler if the request is one to guard; ``super().dispatch()`` does all the rest."""
        handler = self._idempotent_handler(request)
        hooks = _hooks_for(self, handler)
        if hooks is not None and not is_active(request) and may_be_keyed(hooks, request):
            GuardedCall(self, hooks, handler, early_of(request)).install(request)
            return told(self, request, super().dispatch(request, *args, **kwargs))
        return super().dispatch(request, *args, **kwargs)

    def _idempotent_handler(self, request: HttpRequest) -> Any:
        method = (request.method or "").lower()
        return getattr(self, method, None) if method in self.http_method_names else None


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _hooks_for(view: IdempotencyMixin, handler: Any) -> IdempotencyHooks | None:
    """Return the hooks that count for a handler; None when there is none, or it is exempted."""
    if handler is None or getattr(handler, EXEMPT, False):
        return None
    options = handler_options(handler) or view._idempotency_options
    return view if options is None else TunedHooks(options, view)
