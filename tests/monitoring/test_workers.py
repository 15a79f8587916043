"""Real concurrent workers on one database file: an incident, its mails, the digests and the counts, each exactly once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shared

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 4

PREPARE = """
from datetime import timedelta
from mlops.core import clock
from monitoring import baselines, people
from monitoring.models import DigestSubscription
from tests.world import World
from tests.monitoring.scene import Scene
world = World()
scene = Scene(world.acme)
scene.reference(400)
baselines.make(scene.deployment, scene.version)
for _ in range(6):
    scene.log(scene.rows(50))
for user in (world.olga, world.alice, world.dan, world.vic):
    people.subscription(world.acme, user)
DigestSubscription.objects.update(changed_at=clock.now() - timedelta(days=30))
"""

WORK = """
import sys, time
from pathlib import Path
from django.db import connection
from monitoring import counting, delivery, digest_sending, incidents, rules
from serving.models import Deployment
deployment = Deployment.objects.with_routes().get()
print("ready", flush=True)
sys.stdin.readline()  # all begin at once
for kind in (rules.ERROR_RATE, rules.DRIFT, rules.LATENCY):
    for _ in range(5):
        found = rules.Finding(kind, rules.State.FIRING, title=f"{kind} is high", what="High.", todo=("Look.",))
        incidents.observe(deployment, deployment.live_version, found)
digest_sending.send_due()
counting.count_new()
delivery.deliver_due()
"""

REPORT = """
import json
from monitoring.drift.tally import Tally
from monitoring.models import ColumnCount, Incident, Notification
incident = Incident.objects.get()
print(json.dumps({
    "incidents": Incident.objects.count(),
    "mails": incident.mails,
    "opened": incident.events.filter(kind="opened").count(),
    "statuses": sorted(set(Notification.objects.values_list("status", flat=True))),
    "attempts": sorted(set(Notification.objects.values_list("attempts", flat=True))),
    "rows": Notification.objects.count(),
    "counted": sum(ColumnCount.objects.filter(column="amount").values_list("rows", flat=True)),
}))
"""


def _run(code: str, environment: dict[str, str], **options) -> subprocess.Popen:
    setup = "import django; django.setup()\n"
    return subprocess.Popen([sys.executable, "-c", setup + code], cwd=ROOT, env=environment, text=True, **options)


def _done(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_four_workers_open_one_incident_send_each_mail_once_and_count_each_row_once(tmp_path):
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLIPWAY_", "DATABASE_", "EMAIL_"))
        },
        "SLIPWAY_VAR": str(tmp_path),
        "SLIPWAY_ALERT_GROUP_S": "0",
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
        "PYTHONPATH": str(ROOT),
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    shutil.copy(shared.migrated(), tmp_path / "db.sqlite3")
    cache = "from django.core.management import call_command\ncall_command('createcachetable')\n"
    _done(_run(cache + PREPARE, environment, **pipes))

    workers = [_run(WORK, environment, **pipes) for _ in range(WORKERS)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _done(worker)
    # whoever came last to the outbox may have left what another was about to write
    _done(_run("from monitoring import delivery\ndelivery.deliver_due()", environment, **pipes))

    found = json.loads(_done(_run(REPORT, environment, **pipes)).splitlines()[-1])
    assert (found["incidents"], found["opened"]) == (1, 1)
    assert found["mails"] == 3  # opened, and two more signals
    assert (found["statuses"], found["attempts"]) == (["sent"], [1])
    assert found["counted"] == 300
    assert found["rows"] == 3 * 3 + 4  # three developers and above, four digests
    assert len(list((tmp_path / "mail").glob("*.eml"))) == found["rows"]
