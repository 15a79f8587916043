"""Archives: what is in them is found, opened like a single file, signed; what nobody should open is refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from registry.models import ModelVersion
from registry.services import artifacts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_left")]


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes | str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


def tarred(*members: tuple[str, bytes], mode: str = "w:gz") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.usefixtures("runner_host")
def test_a_zip_of_one_model_is_opened_like_the_file_itself(push, tiny) -> None:
    iris = tiny["iris_joblib"]
    archive = zipped(("iris/model.joblib", iris.path.read_bytes()), ("iris/notes.md", "# Iris"), ("__MACOSX/._x", "j"))
    done = push(archive, filename="iris.zip", sample={"inputs": iris.rows, "expected": iris.expected})
    assert done.shown["status"] == "ready", done.shown["findings"]
    version = ModelVersion.objects.get()
    assert version.format == "sklearn"
    assert [member["name"] for member in version.contents["members"]] == ["model.joblib", "notes.md"]
    assert version.contents["model"] == "model.joblib"
    spec = artifacts.spec_for(version)
    assert (Path(spec.path).name, spec.folder) == ("model.joblib", None)
    assert "__MACOSX" in done.finding("contents")["message"] or any(
        "__MACOSX" in found["message"] for found in done.shown["findings"]
    )
