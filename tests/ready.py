"""Imported by a server of forks: Django is set up in each of them from the start."""

import django

django.setup()
