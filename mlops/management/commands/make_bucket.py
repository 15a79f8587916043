"""``manage.py make_bucket``: make the S3 bucket of the settings unless it is there; waits for the server."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Make the S3 bucket that SLIPWAY_S3_BUCKET names."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wait", type=float, default=60, help="Seconds to wait for the server.")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STORAGE_KIND != "s3":
            raise CommandError("SLIPWAY_STORAGE is not s3: there is no bucket to make.")
        client, name = default_storage.connection.meta.client, default_storage.bucket_name
        deadline = time.monotonic() + options["wait"]
        while True:
            try:
                if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                    client.create_bucket(Bucket=name)
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline:
                    raise CommandError(f"The S3 server does not answer: {error}") from error
                time.sleep(1)
            else:
                self.stdout.write(f"bucket {name} is there")
                return
