"""Real worker processes on a database of their own: a SQLite file, or on PostgreSQL where the run has a server (make test-postgres)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests import shared

ROOT = Path(__file__).resolve().parents[2]
_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
_TABLES = "from django.core.management import call_command\ncall_command('migrate', verbosity=0)\ncall_command('createcachetable')\n"


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    """The environment of processes that share one new, migrated database. Mails are files in ``folder``/mail, unless ``more`` says else."""
    ours = ("SLIPWAY_", "DATABASE_", "EMAIL_")
    found = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "SLIPWAY_VAR": str(folder),
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
        "PYTHONPATH": str(ROOT),
        **more,
    }
    server = os.environ.get("DATABASE_URL", "")
    if server.startswith("postgres"):
        found["DATABASE_URL"] = _new_database(server)
    else:
        shutil.copy(shared.migrated(), folder / "db.sqlite3")
    done(run(_TABLES, found))
    return found


def _new_database(server: str) -> str:
    import psycopg

    name = f"workers_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def run(code: str, environment: dict[str, str]) -> subprocess.Popen:
    setup = "import django; django.setup()\n"
    return subprocess.Popen([sys.executable, "-c", setup + code], cwd=ROOT, env=environment, text=True, **_PIPES)


def done(process: subprocess.Popen) -> str:
    """What it printed. Fails with what it said when it did not end well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def all_at_once(code: str, environment: dict[str, str], count: int) -> Sequence[str]:
    """``count`` processes that print "ready", wait for a line, and then run on; what each printed after that."""
    begin = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n"
    head, _, rest = code.partition("# begin\n")
    workers = [run(head + begin + rest, environment) for _ in range(count)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [done(worker) for worker in workers]
