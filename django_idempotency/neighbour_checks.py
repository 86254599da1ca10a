"""System checks of what stands beside this app: packages it can use, and those that must let its headers pass."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.checks import register as register_check

from django_idempotency import encryption
from django_idempotency.checks import RULES, is_readable
from django_idempotency.conf import conf
from django_idempotency.http import BODY_OMITTED_HEADER, header_names
from django_idempotency.private_cache import DUMMY, LOCAL_MEMORY, kind_of


def register() -> None:
    """Register every check of this module."""
    register_check(check_encryption)
    register_check(check_cors)
    register_check(check_cache)


def check_encryption(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E101: keys without the package that encrypts; every guarded request would get 503."""
    if encryption.is_installed() or not is_readable() or not conf.ENCRYPTION_KEYS:
        return []
    message = "IDEMPOTENCY['ENCRYPTION_KEYS'] is set, and the package cryptography is not installed."
    hint = "Install the package cryptography: python -m pip install cryptography."
    return [Error(message, hint=hint, id="django_idempotency.E101")]


def check_cors(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W101, W102: django-cors-headers that keeps browsers from sending the key, or from reading our headers."""
    if not apps.is_installed("corsheaders") or not _is_usable("HEADER", "REPLAY_HEADER"):
        return []
    names = header_names()
    found: list[CheckMessage] = []
    if len(_missing(names, "CORS_ALLOW_HEADERS")) == len(names):
        message = "CORS_ALLOW_HEADERS lets no browser of another origin send an idempotency key."
        wanted = f'CORS_ALLOW_HEADERS = [*default_headers, "{names[0].lower()}"]'
        hint = f"Set {wanted}, with default_headers from corsheaders.defaults: a list of one drops those."
        found.append(Warning(message, hint=hint, id="django_idempotency.W101"))
    told = [conf.REPLAY_HEADER, BODY_OMITTED_HEADER, "Retry-After"]
    if hidden := _missing(told, "CORS_EXPOSE_HEADERS"):
        message = (
            "CORS_EXPOSE_HEADERS hides headers of a replay, or Retry-After, from browsers of another origin."
        )
        hint = f"Add to CORS_EXPOSE_HEADERS: {', '.join(map(repr, hidden))}."
        found.append(Warning(message, hint=hint, id="django_idempotency.W102"))
    return found


def check_cache(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E102: a backend that takes no plain bytes; W103: one that other processes do not see; W104: one that forgets."""
    alias = conf.CACHE if _is_usable("CACHE") else None
    if alias is None:
        return []
    kind = kind_of(alias)
    if kind is None:
        message = f"IDEMPOTENCY['CACHE'] is {alias!r}, which is no Redis or Valkey in CACHES: it is not used."
        hint = "Take django-redis, django-valkey or Django's RedisCache, or leave CACHE out."
        return [Error(message, hint=hint, id="django_idempotency.E102")]
    return [warning(alias) for name, warning in _CACHE_WARNINGS.items() if name == kind]


def _warn_of_local_memory(alias: str) -> CheckMessage:
    message = (
        f"CACHES[{alias!r}], which IDEMPOTENCY['CACHE'] names, is each process's own: an answer that is ended or "
        "deleted in one process is still replayed by the others."
    )
    hint = "Take Redis or Valkey, or leave CACHE out."
    return Warning(message, hint=hint, id="django_idempotency.W103")


def _warn_of_dummy(alias: str) -> CheckMessage:
    message = f"CACHES[{alias!r}], which IDEMPOTENCY['CACHE'] names, keeps nothing."
    return Warning(
        message, hint="Leave CACHE out: every look into it is in vain.", id="django_idempotency.W104"
    )


_CACHE_WARNINGS = {LOCAL_MEMORY: _warn_of_local_memory, DUMMY: _warn_of_dummy}


def _missing(names: list[str], setting: str) -> list[str]:
    listed = {str(name).lower() for name in getattr(settings, setting, ())}
    return [name for name in names if name.lower() not in listed]


def _is_usable(*names: str) -> bool:
    """Tell whether the settings can be read at all and these pass their rules; if not, others say so."""
    return is_readable() and all(RULES[name][0](getattr(conf, name)) for name in names)
