"""Rules judged and mails delivered by several real processes at once, and by one that is killed in the middle."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import signal
import socket
import threading
from collections import Counter
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from tests.monitoring.worker_processes import all_at_once, done, run, surroundings

pytestmark = [pytest.mark.slow, pytest.mark.database]
WORKERS, DEPLOYMENTS, READERS = 4, 3, 3

PREPARE = """
from monitoring import alert_rules
from monitoring.models import AlertRule
from tests.world import World
from tests.monitoring.scene import Scene
world = World()
for place in range(3):
    scene = Scene(world.acme, f"d{place}", seed=place)
    alert_rules.ensure_rules(scene.deployment)
    AlertRule.objects.filter(deployment=scene.deployment, kind__in=("quality", "estimate")).delete()
    alert_rules.create(
        scene.deployment, world.caller("dan"), name="Many requests", measure="requests", params={}, direction="above",
        threshold=50.0, window_minutes=60, minimum_rows=1, severity="warning", enabled=True,
    )
    type(scene.deployment).objects.update(created_at="2026-01-01T00:00:00Z", live_since="2026-01-01T00:00:00Z")
    scene.requests(100, broken=40)
"""

WORK = """
from datetime import timedelta
from mlops.core import clock
from monitoring import delivery, evaluation
# begin
until = clock.now() + timedelta(seconds=3)
while clock.now() < until:
    evaluation.evaluate_all(pace=timedelta(hours=1))
    delivery.deliver_due()
"""

REPORT = """
import json
from monitoring.models import AlertRule, Incident, Notification
print(json.dumps({
    "incidents": Incident.objects.count(),
    "opened": [each.events.filter(kind="opened").count() for each in Incident.objects.all()],
    "signals": [sorted(each["label"] or each["kind"] for each in row.signals.values()) for row in Incident.objects.all()],
    "judged": sorted(AlertRule.objects.filter(state="firing").values_list("recent", flat=True)),
    "statuses": sorted(set(Notification.objects.values_list("status", flat=True))),
    "attempts": sorted(set(Notification.objects.values_list("attempts", flat=True))),
    "rows": Notification.objects.count(),
}))
"""


def _mails(folder: Path) -> list[EmailMessage]:
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in folder.glob("*.eml")]


def _report(environment: dict[str, str]) -> dict:
    return json.loads(done(run(REPORT, environment)).splitlines()[-1])


@pytest.mark.parametrize("group_s", [0, 1])
def test_workers_at_once_judge_each_rule_once_and_send_each_mail_once(tmp_path, group_s):
    environment = surroundings(tmp_path, SLIPWAY_ALERT_GROUP_S=str(group_s))
    done(run(PREPARE, environment))
    all_at_once(WORK, environment, WORKERS)
    done(run("from monitoring import delivery\ndelivery.deliver_due()", environment))  # what the last one wrote

    found = _report(environment)
    assert (found["incidents"], found["opened"]) == (DEPLOYMENTS, [1] * DEPLOYMENTS)
    assert found["signals"] == [["Many requests", "error_rate"]] * DEPLOYMENTS
    assert found["judged"] == [[1]] * 2 * DEPLOYMENTS
    assert (found["statuses"], found["attempts"]) == (["sent"], [1])
    mails = _mails(tmp_path / "mail")
    assert len(mails) == found["rows"]
    assert set(Counter(mail["Message-ID"] for mail in mails).values()) == {1}
    by_reader = Counter((mail["To"], mail["Subject"].split(":")[0]) for mail in mails)
    assert len(by_reader) == READERS * DEPLOYMENTS
    # at once: one for each signal. In company: one for both, unless the second came after the first had gone
    assert set(by_reader.values()) == {2} if group_s == 0 else max(by_reader.values()) <= 2


class _Server:
    """An SMTP server. ``hold``: it has read a mail, and does not say so until it is let go."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.hold = True
        self.read, self.let_go = threading.Event(), threading.Event()

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  aiosmtpd's name
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        if self.hold:
            self.read.set()
            await asyncio.get_running_loop().run_in_executor(None, self.let_go.wait)
        return "250 OK"


@pytest.fixture
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = _Server()
    controller = Controller(found, hostname="127.0.0.1", port=port)
    controller.start()
    found.port = port
    yield found
    found.let_go.set()
    controller.stop()


ONE_MAIL = """
from monitoring import incidents, people, rules
from monitoring.models import DigestSubscription
from mlops.core import clock
from tests.world import World
from tests.monitoring.scene import Scene
world = World()
for user in (world.olga, world.alice):
    DigestSubscription.objects.create(organization=world.acme, user=user, alerts=False)
scene = Scene(world.acme)
incidents.observe(scene.deployment, scene.version, rules.Finding(rules.LATENCY, rules.State.FIRING, title="slow", what="Slow.", todo=("Look.",)))
"""
DELIVER = "from monitoring import delivery\nprint(delivery.deliver_due()['sent'])"
GROWN_OLD = """
from datetime import timedelta
from monitoring import delivery
from monitoring.models import Notification
for row in Notification.objects.filter(status="sending"):
    Notification.objects.filter(pk=row.pk).update(claimed_at=row.claimed_at - delivery.CLAIM_LASTS - timedelta(seconds=1))
"""


def test_a_worker_killed_while_it_sends_loses_no_mail_and_a_second_copy_has_the_same_message_id(tmp_path, server):
    """The server has the whole mail, and its sender dies before it hears so. Nobody can know which of the two it was: it is sent
    again, as the same message."""
    environment = surroundings(
        tmp_path, SLIPWAY_ALERT_GROUP_S="0", EMAIL_HOST="127.0.0.1", EMAIL_PORT=str(server.port), EMAIL_TLS="0"
    )
    done(run(ONE_MAIL, environment))
    worker = run(DELIVER, environment)
    assert server.read.wait(timeout=90)
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=30)
    server.hold = False
    server.let_go.set()

    assert done(run(DELIVER, environment)).split()[-1] == "0"  # the claim still holds
    assert len(server.messages) == 1
    done(run(GROWN_OLD, environment))
    assert sum(int(out.split()[-1]) for out in all_at_once(f"# begin\n{DELIVER}", environment, WORKERS)) == 1
    assert len(server.messages) == 2
    assert len({message["Message-ID"] for message in server.messages}) == 1
    found = _report(environment)
    assert (found["statuses"], found["attempts"]) == (["sent"], [2])
