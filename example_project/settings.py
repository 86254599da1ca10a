"""Settings of the example shop.

Everything that differs between machines comes from the environment:

| variable | meaning |
|---|---|
| ``DATABASE_ENGINE`` | ``sqlite`` (default), ``postgres`` or ``mariadb`` |
| ``DATABASE_NAME`` | a file for SQLite, otherwise a database |
| ``DATABASE_HOST``, ``DATABASE_PORT`` | host name or socket folder (PostgreSQL) or socket file (MariaDB) |
| ``DATABASE_USER``, ``DATABASE_PASSWORD`` | |
| ``ATOMIC_REQUESTS=1`` | Django opens a transaction around each view |
| ``SHOP_FAULTS=1`` | the header ``X-Shop-Fault`` is obeyed: see ``shop/faults.py`` |
| ``DEBUG=1``, ``SECRET_KEY``, ``WEBHOOK_SECRET`` | |
| ``CELERY_BROKER_URL``, ``CELERY_RESULT_BACKEND``, ``CELERY_VISIBILITY_TIMEOUT`` | read by ``celery.py`` |
"""

import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

DATABASE_ENGINE = os.environ.get("DATABASE_ENGINE", "sqlite")

if DATABASE_ENGINE == "mariadb":
    import pymysql

    # PyMySQL stands in for mysqlclient, and before 1.2 it reports a version of it that Django 6 refuses.
    pymysql.version_info = (2, 2, 8, "final", 0)
    pymysql.install_as_MySQLdb()

BASE_DIR = Path(__file__).resolve().parent.parent


def flag(name: str) -> bool:
    """Tell whether the environment variable ``name`` is ``1``."""
    return os.environ.get(name) == "1"


def sqlite() -> dict[str, Any]:
    """SQLite for concurrent writers: without these options, races fail with "database is locked"."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE_NAME", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;",
        },
    }


def server(engine: str, user: str) -> dict[str, Any]:
    """Return the entry of a database server, ``user`` being the one it has when nothing is configured."""
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": os.environ.get("DATABASE_NAME", "shop"),
        "HOST": os.environ.get("DATABASE_HOST", ""),
        "PORT": os.environ.get("DATABASE_PORT", ""),
        "USER": os.environ.get("DATABASE_USER", user),
        "PASSWORD": os.environ.get("DATABASE_PASSWORD", ""),
    }


def database(engine: str) -> dict[str, Any]:
    """Return the entry for ``DATABASE_ENGINE``."""
    if engine == "sqlite":
        return sqlite()
    if engine == "postgres":
        return server("postgresql", user="postgres")
    if engine == "mariadb":
        return {**server("mysql", user="root"), "OPTIONS": {"charset": "utf8mb4"}}
    raise ImproperlyConfigured(f"DATABASE_ENGINE is {engine!r}: sqlite, postgres or mariadb?")


DEBUG = flag("DEBUG")
SECRET_KEY = os.environ.get("SECRET_KEY", "example-only-not-a-secret-never-use-this-in-production")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "django_idempotency",
    "example_project.shop",
]

IDEMPOTENCY = {"RETENTION": 24 * 60 * 60, "MIDDLEWARE_PATHS": ["/shop/"]}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "django_idempotency.rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {"TITLE": "The shop", "VERSION": "1"}

DATABASES = {"default": {**database(DATABASE_ENGINE), "ATOMIC_REQUESTS": flag("ATOMIC_REQUESTS")}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_idempotency.middleware.IdempotencyMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"
STATIC_URL = "static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "order"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

WEBHOOK_SECRET = os.environ.get("WEBHOOK_SECRET", "example-only-the-provider-has-the-same")
SHOP_FAULTS = flag("SHOP_FAULTS")
