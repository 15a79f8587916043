"""``manage.py up``: prepare the database and run everything on this machine."""

from __future__ import annotations

import os
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import trust
from mlops.supervise import Supervisor


def prepare() -> None:
    """Bring the database up to date: safe to repeat."""
    call_command("migrate", verbosity=0, interactive=False)
    call_command("createcachetable", verbosity=0)


def own_address(host: str, port: int) -> None:
    """Where this machine finds what is about to start, for the links its parts write, unless the operator named an address."""
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "[::]", "") else host  # noqa: S104  nothing is bound here
    os.environ.setdefault("SLIPWAY_URL", f"http://{reachable}:{port}")


class Command(BaseCommand):
    help = "Run the web process, the worker and the runner host; one Ctrl-C ends all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        prepare()
        if refusal := trust.refusal():
            raise CommandError(refusal)
        host, port = options["host"], options["port"]
        own_address(host, port)
        with Supervisor(f"{host}:{port}") as slipway:
            slipway.wait_ready()
            self.stdout.write(f"Slipway is at {slipway.url}  (Ctrl-C ends it)")
            slipway.run()
