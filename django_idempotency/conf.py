"""Typed settings over ``IDEMPOTENCY = {…}`` in the project's settings, read on every access."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string

#: The field of an HTML form that carries the key.
FORM_FIELD = "idempotency_key"

Hook = str | Callable[..., Any] | None


class Defaults:
    """Every setting: the attribute is its name, its type and its default at once."""

    REQUIRED: bool = False
    METHODS: list[str] = ["POST", "PATCH"]
    RETENTION: int | float | timedelta = 86400
    WAIT_SECONDS: int | float = 0
    SCOPE: Hook = None
    FINGERPRINT: Hook = None
    FINGERPRINT_IGNORE: list[str] = ["csrfmiddlewaretoken", FORM_FIELD]
    HEADER: str | list[str] = ["Idempotency-Key"]
    KEY_FORMAT: str = "lenient"
    KEY_MAX_LENGTH: int = 255
    KEY_VALIDATOR: Hook = None
    STORE: Hook = None
    STORE_BODY: bool = True
    STORE_REQUEST_PAYLOAD: bool = True
    MAX_BODY_BYTES: int = 1024 * 1024
    REDACT: list[str] = [
        "password", "passwd", "passphrase", "secret", "token", "authorization", "api key", "apikey", "private key",
        "pwd", "otp", "csrfmiddlewaretoken", "card number", "cardnumber", "cvv", "cvc", "pin", "iban", "ssn",
    ]  # fmt: skip
    ENCRYPTION_KEYS: list[str] = []
    RESPONSE_HEADERS: list[str] = [
        "Content-Type", "Content-Language", "Content-Disposition", "Content-Encoding", "Content-Location",
        "Location", "ETag", "Last-Modified", "Link", "Vary", "Allow", "Deprecation", "Sunset",
    ]  # fmt: skip
    RETRIES: int = 2
    RETRY_AFTER: int = 1
    RETRY_HINTS: bool = True
    REPLAY_HEADER: str = "Idempotent-Replayed"
    ERROR_FORMAT: str = "problem"
    DOCUMENTATION_URL: str | None = None
    DATABASE: str | None = None
    MIDDLEWARE_PATHS: list[str] = []
    CLAIM: str = "auto"
    CACHE: str | None = None
    ADMIN: bool = True
    COUNT_REPLAYS: bool = True
    PURGE_AFTER_REQUESTS: int = 0


# Only for types: a setting of ``Defaults`` would go before what ``_read()`` makes of it.
if TYPE_CHECKING:
    _Base = Defaults
else:
    _Base = object


class Conf(_Base):
    """The settings in force: the project's value, else the default; never copied, so ``override_settings`` works."""

    def prefer(self, own: Any, name: str) -> Any:
        """Return a view's own value, or the setting ``name`` where the view has none."""
        return getattr(self, name) if own is None else own

    def retention(self, own: float | timedelta | None) -> timedelta:
        """Return a view's own retention, in seconds or as a timedelta, or that of the setting."""
        value = self.prefer(own, "RETENTION")
        return value if isinstance(value, timedelta) else timedelta(seconds=value)

    def hook(self, name: str) -> Callable[..., Any] | None:
        """Return the callable behind a setting that takes a callable or its dotted path, or None."""
        value: Hook = getattr(self, name)
        return import_string(value) if isinstance(value, str) else value


def _read(name: str) -> property:
    """Return a property of ``Conf``: a request reads thirty settings, and ``__getattr__()`` takes thrice as long."""
    default = getattr(Defaults, name)

    def read(conf: Conf) -> Any:
        return getattr(settings, "IDEMPOTENCY", {}).get(name, default)

    return property(read)


for _name in Defaults.__annotations__:
    setattr(Conf, _name, _read(_name))
conf = Conf()
