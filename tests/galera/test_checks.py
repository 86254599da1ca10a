"""The system check that asks a node of a Galera cluster."""

from __future__ import annotations

import pytest

from tests.galera.conftest import CURRENT, Clients
from tests.test_checks import ids

pytestmark = [pytest.mark.galera, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("init_command", "told"), [("", True), (CURRENT, False)])
def test_i004_node_whose_reads_may_be_behind_is_told(clients: Clients, init_command: str, told: bool) -> None:
    clients.init_command = init_command
    clients.connect(clients.cluster.nodes[1])
    assert ("I004" in ids(databases=["default"])) is told
