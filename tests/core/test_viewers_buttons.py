"""A viewer's pages offer nothing that would be refused: no button that leads to a 403."""

from __future__ import annotations

import pytest

from monitoring import incidents, rules
from monitoring.rules import Finding, State
from tests.monitoring.scene import Scene

pytestmark = pytest.mark.django_db


def test_the_empty_home_offers_pushing_and_keys_to_who_may(world) -> None:
    for who, offered in (("dan", True), ("vic", False)):
        page = world.client(who).get("/acme/").content.decode()
        assert ('href="/acme/upload/"' in page, 'class="btn" href="/acme/settings/keys/"' in page) == (offered, offered)


def test_home_and_incident_offer_deeds_to_who_may_do_them(world) -> None:
    scene = Scene(world.acme)
    found = Finding(rules.LATENCY, State.FIRING, title="slow", what="Slow.", todo=("a",))
    incident = incidents.observe(scene.deployment, scene.version, found)
    assert incident is not None
    for who, offered in (("dan", True), ("vic", False)):
        client = world.client(who)
        assert ("Push a model" in client.get("/acme/").content.decode()) is offered
        deployment = client.get("/acme/deployments/fraud/").content.decode()
        assert ("/acme/deployments/fraud/predictions/" in deployment) is offered
        assert ("Roll back…" in client.get(f"/acme/incidents/{incident.pk}/").content.decode()) is offered
