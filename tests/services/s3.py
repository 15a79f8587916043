"""A real S3 server for the tests: SeaweedFS, started on loopback with a random key, ended with the session."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

START_S = 60


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    def options(self) -> dict[str, object]:
        """The same storage options as ``mlops.settings`` makes from SLIPWAY_S3_*."""
        return {
            "bucket_name": self.bucket,
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "client_config": Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=5,
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
            "file_overwrite": False,
            "default_acl": None,
            "querystring_auth": True,
            "max_memory_size": 8 << 20,
        }

    def client(self) -> object:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"max_attempts": 1},
            connect_timeout=2,
            read_timeout=20,
        )
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=config,
        )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed") or "weed"


@contextlib.contextmanager
def running() -> Iterator[S3Server]:
    """The server with one bucket, ready to be written to."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-s3-"))
    master, volume, filer, port, iceberg, lance, *grpc = _free_ports(10)
    access, secret = secrets.token_hex(10), secrets.token_hex(20)
    identities = [{"name": "tests", "credentials": [{"accessKey": access, "secretKey": secret}], "actions": ["Admin"]}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}), encoding="utf-8")
    command = [
        _weed(), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-volume.max=20",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}",
        f"-s3.port.iceberg={iceberg}",
        f"-s3.port.lance={lance}",
        f"-master.port.grpc={grpc[0]}", f"-volume.port.grpc={grpc[1]}", f"-filer.port.grpc={grpc[2]}", f"-s3.port.grpc={grpc[3]}",
        f"-s3.config={folder / 's3.json'}", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    server = S3Server(f"http://127.0.0.1:{port}", "slipway-tests", access, secret)
    try:
        _wait_writable(server, process, folder / "log")
        yield server
    finally:
        process.send_signal(signal.SIGKILL)  # it takes 15 s over a polite end, and its data is ours to drop
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_writable(server: S3Server, process: subprocess.Popen, log: Path) -> None:
    client, deadline = server.client(), time.monotonic() + START_S
    while True:
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"1")
            return
        except (BotoCoreError, ClientError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The S3 server did not start:\n{log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.3)
