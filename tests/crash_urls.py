"""The shop's doors, and every kind of door that the tests know."""

from example_project.urls import urlpatterns as shop
from tests.doors.urls import urlpatterns as doors

urlpatterns = [*shop, *doors]
