"""The shop for Celery: ``celery -A example_project worker``."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

app = Celery("example_project", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost"))
app.conf.result_backend = os.environ.get("CELERY_RESULT_BACKEND")
app.conf.broker_connection_retry_on_startup = True
# After so many seconds Redis gives what a dead worker had taken to another; longer than any task lasts.
app.conf.broker_transport_options = {
    "visibility_timeout": float(os.environ.get("CELERY_VISIBILITY_TIMEOUT", "3600"))
}
app.autodiscover_tasks()
