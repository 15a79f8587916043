"""``manage.py demo``: the whole product on this machine in a minute, then left serving. ``--check`` asserts each step and ends."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import User
from mlops.demo.client import Client, DemoFailed
from mlops.demo.scenario import MODELS, Scenario
from mlops.management.commands.up import own_address, prepare
from mlops.supervise import Supervisor


class Command(BaseCommand):
    help = "Push three real models, send traffic, raise a drift alert, and go on serving."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="Assert every step, then end with status 0.")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        self.started = time.monotonic()
        self.tell("Preparing the database ...")
        prepare()
        own_address("127.0.0.1", options["port"])
        try:
            with Supervisor(f"127.0.0.1:{options['port']}") as slipway:
                slipway.wait_ready()
                self.play(slipway.url, check=options["check"])
                if not options["check"]:
                    slipway.run()
        except (DemoFailed, TimeoutError) as error:
            raise CommandError(str(error)) from error

    def tell(self, text: str) -> None:
        self.stdout.write(f"[{time.monotonic() - self.started:5.1f} s] {text}")
        self.stdout.flush()

    def play(self, url: str, *, check: bool) -> None:
        client = Client(url)
        address, password = _free_address(), secrets.token_urlsafe(15)
        self.tell(f"Creating the owner {address} ...")
        client.register(address, password)
        folder = settings.VAR_DIR / "demo"
        scenario = Scenario(client, folder, Path(settings.VAR_DIR) / "mail", self.tell)
        scenario.confirm_address(address)
        scenario.train()
        scenario.push_all()
        self.tell("Comparing the API with the models run locally ...")
        for name in MODELS:
            scenario.compare(name)
        scenario.normal_traffic()
        scenario.shifted_traffic()
        self.tell("Waiting for the alert mail ...")
        scenario.alert()
        if check:
            if shutil.which("curl"):
                scenario.check_curl()
            self.tell("Every step did what it promises.")
            return
        self.explain(scenario, url, address, password)

    def explain(self, scenario: Scenario, url: str, address: str, password: str) -> None:
        from mlops.welcome import sign_in_link

        self.stdout.write(
            f"\nSlipway is at {url}\n\n"
            f"  Sign in once with  {url}{sign_in_link(address)}\n"
            f"  or as              {address}  /  {password}\n\n"
            f"  Mails are in       {settings.VAR_DIR / 'mail'}\n\n"
            f"Predict from a terminal:\n\n{scenario.curl()}\n\nCtrl-C ends everything."
        )
        self.stdout.flush()


def _free_address() -> str:
    """A new owner at each run: a demo never signs in as somebody who was there before."""
    taken = User.objects.filter(email__startswith="ada").count()
    return f"ada{taken + 1 if taken else ''}@example.com"
