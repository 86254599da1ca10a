"""The shop with the doors that the SDKs know."""

from example_project.settings import *  # noqa: F403

ROOT_URLCONF = "tests.clients.urls"
