"""docs/signing.md does what it says: its commands, word for word, with the real curl, jq and openssl, against a served envelope."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlops.core import storage
from registry import signing
from registry.models import ModelVersion
from tests.registry.test_promotions import a_version
from tests.shared import PROJECT

_ABSENT = [tool for tool in ("curl", "jq", "openssl") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(bool(_ABSENT), reason=f"the page's commands need {', '.join(_ABSENT)}"),
]
VERIFY, COMPARE = re.findall(r"```sh\n(.*?)```", (PROJECT / "docs" / "signing.md").read_text(), re.DOTALL)


@pytest.fixture
def version(world: Any, settings: Any, tmp_path: Path) -> ModelVersion:
    settings.SIGNING_KEY_FILE = tmp_path / "keys" / "signing.pem"
    return a_version(world)


@pytest.fixture
def run(world: Any, version: ModelVersion, live_server: Any, tmp_path: Path) -> Any:
    """``run(VERIFY)``: the block in a shell of its own, in an empty folder that the next one finds again."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    key = world.key("vic", ["read"])
    (folder / "model.joblib").write_bytes(b"".join(storage.open_stream(version.file_key)))
    names = {"SLIPWAY": live_server.url, "SLIPWAY_KEY": key, "VERSION": "acme/models/fraud/versions/1"}
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **names}

    def shell(block: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", block], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    shell.folder = folder  # type: ignore[attr-defined]
    return shell


def test_the_commands_of_the_page_verify_a_version(run, version) -> None:
    done = run(VERIFY)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
    assert version.sha256 in done.stdout
    done = run(COMPARE)
    assert (done.returncode, done.stdout) == (0, "model.joblib: OK\n"), done.stderr


def test_they_fail_on_a_statement_that_was_changed(run, version) -> None:
    envelope = version.signature
    payload = base64.b64decode(envelope["payload"]).replace(b'"version":1', b'"version":2')
    version.signature = envelope | {"payload": base64.b64encode(payload).decode()}
    version.save(update_fields=["signature"])
    done = run(VERIFY)
    assert done.returncode != 0
    assert "Verified Successfully" not in done.stdout
    assert "Verification Failure" in done.stdout + done.stderr


def test_they_fail_on_another_file(run) -> None:
    assert run(VERIFY).returncode == 0
    (run.folder / "model.joblib").write_bytes(b"other bytes")
    done = run(COMPARE)
    assert done.returncode != 0
    assert "FAILED" in done.stdout


def test_a_key_that_is_not_published_is_nobodys(run, settings, version) -> None:
    for path in settings.SIGNING_KEY_FILE.parent.iterdir():
        path.unlink()
    done = run(VERIFY)
    assert done.returncode != 0
    assert "Verified Successfully" not in done.stdout


def test_after_a_rotation_the_old_key_verifies_and_the_new_one_signs(run, settings, version, client) -> None:
    old = version.signature["signatures"][0]["keyid"]
    settings.SIGNING_KEY_FILE.rename(settings.SIGNING_KEY_FILE.with_suffix(".retired"))
    new = signing.sign_version(version)["signatures"][0]["keyid"]
    assert new != old
    answer = client.get("/.well-known/slipway-keys.json")
    assert (answer["Cache-Control"], answer["Content-Type"]) == ("public, max-age=300", "application/json")
    keys = {key["kid"]: key for key in answer.json()["keys"]}
    assert set(keys) == {old, new}
    assert all(key["pem"].startswith("-----BEGIN PUBLIC KEY-----\n") for key in keys.values())
    assert not any("PRIVATE" in key["pem"] or "d" in key for key in keys.values())
    assert settings.SIGNING_KEY_FILE.stat().st_mode & 0o077 == 0
    assert signing.verify_version(version)
    assert run(VERIFY).returncode == 0
    version.signature = signing.sign_version(version)
    version.save(update_fields=["signature"])
    assert run(VERIFY).returncode == 0


def test_the_envelope_is_a_download_and_none_without_a_signature(world, version) -> None:
    path = "models/fraud/versions/1/attestation"
    answer = world.api("vic").get(f"/api/v1/acme/{path}")
    assert answer.json() == version.signature
    assert answer["Content-Disposition"] == 'attachment; filename="fraud-v1.dsse.json"'
    assert world.client("vic").get(f"/acme/{path}/").json() == version.signature
    assert world.api("mallory").get(f"/api/v1/acme/{path}").status_code == 404
    ModelVersion.objects.filter(pk=version.pk).update(status="failed", signature=None)
    assert world.api("vic").get(f"/api/v1/acme/{path}").status_code == 404
