"""Archives: what is in them is found, opened like a single file, signed; what nobody should open is refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlops.core import errors
from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import get_host
from registry import signing
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


# -- the same files by other doors ----------------------------------------------------------------------------------------
@pytest.mark.usefixtures("runner_host")
@pytest.mark.parametrize(("mode", "ending"), [("w", "tar"), ("w:gz", "tar.gz"), ("w:gz", "tgz")])
def test_a_tar_is_opened_alike(push, tiny, mode, ending) -> None:
    price = tiny["regressor_pickle"]
    members = [
        ("./price/price.pkl", price.path.read_bytes()),
        ("./price/test_data.json", json.dumps(price.rows).encode()),
    ]
    done = push(tarred(*members, mode=mode), "price", filename=f"price.{ending}")
    assert done.shown["status"] == "ready", done.shown["findings"]
    version = ModelVersion.objects.get()
    assert (version.format, version.contents["test_data"]) == ("sklearn", "test_data.json")
    assert version.datasets.get().filename == "test_data.json"


def posted(client, url: str, files: list[tuple[str, str, bytes]], **fields: str):
    """A multipart form as curl and browsers send it: file names keep their folders."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, filename, content in files
    ]
    parts += [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    return client.generic("POST", url, b"".join([*parts, b"--x--\r\n"]), "multipart/form-data; boundary=x")


NAMED = b"""from lib.names import NAMES

def predict(model, rows):
    return [NAMES[i] for i in model.predict([list(row.values()) for row in rows])]
"""


def folder_files(tiny) -> list[tuple[str, str, bytes]]:
    data = {"inputs": tiny["iris_joblib"].rows, "expected": ["a", "b", "c"]}
    return [
        ("files", "iris/model.joblib", tiny["iris_joblib"].path.read_bytes()),
        ("files", "iris/lib/names.py", b"NAMES = ['a', 'b', 'c']\n"),
        ("files", "iris/predict.py", NAMED),
        ("files", "iris/test_data.json", json.dumps(data).encode()),
        ("files", "iris/.git/HEAD", b"ref: refs/heads/main"),
    ]


@pytest.mark.usefixtures("runner_host")
def test_many_files_of_a_folder_over_the_api(world, jobs_now, tiny) -> None:
    with jobs_now():
        answer = posted(world.api("dan"), "/api/v1/acme/models/iris/versions", folder_files(tiny))
    assert answer.status_code == 202, answer.json()
    version = ModelVersion.objects.get()
    assert version.status == "ready", list(version.findings.values_list("message", flat=True))
    assert (version.filename, version.format) == ("iris.tar", "python")
    assert [member["name"] for member in version.contents["members"]] == [
        "lib/names.py", "model.joblib", "predict.py", "test_data.json",
    ]  # fmt: skip


@pytest.mark.usefixtures("runner_host")
def test_a_folder_chosen_in_the_form(world, jobs_now, tiny) -> None:
    client = world.client("dan")
    with jobs_now():
        answer = posted(client, "/acme/upload/", folder_files(tiny), model="iris")
    assert answer.status_code == 302, answer.content.decode()
    version = ModelVersion.objects.get()
    assert version.status == "ready", list(version.findings.values_list("message", flat=True))
    page = client.get(answer["Location"].removesuffix("validation/")).content.decode()
    assert "lib/names.py" in page


def test_the_same_folder_is_the_same_archive(world, tiny) -> None:
    for files in (folder_files(tiny), folder_files(tiny)[::-1]):
        assert posted(world.api("dan"), "/api/v1/acme/models/iris/versions", files).status_code == 202
    assert ModelVersion.objects.values("sha256").distinct().count() == 1


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([("files", "../up.py", b"1")], "climbing_member"),
        ([("files", "/etc/up.py", b"1")], "absolute_member"),
        ([("files", "a.py", b"1"), ("files", "A.py", b"2")], "duplicate_member"),
        ([("files", ".git/HEAD", b"1")], "empty_archive"),
        ([("files", "a.py", b"1"), ("file", "m.pkl", b"\x80\x04N.")], "file_and_folder"),
        ([], "file_missing"),
    ],
)
def test_a_folder_with_odd_names_is_refused_at_the_door(world, files, code) -> None:
    answer = posted(world.api("dan"), "/api/v1/acme/models/iris/versions", files, metadata="{}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["hint"]
    assert not ModelVersion.objects.exists()


# -- refused --------------------------------------------------------------------------------------------------------------
def link(name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = 0o120777 << 16
    return made


GOOD = ("model.joblib", b"\x80\x04N.")
REFUSED = {
    "climbing": (zipped(("../model.joblib", b"1")), "leaves the archive's folder", "plain relative"),
    "link": (zipped(GOOD, (link("lib"), "/etc")), "is a link", "file itself"),
    "bomb": (zipped(GOOD, ("zeros.bin", bytes(8 << 20))), "more than 200 times", "less compression"),
    "twice": (zipped(GOOD, ("Model.joblib", b"2")), "twice", "Remove one"),
    "file and folder": (zipped(GOOD, ("model.joblib/x", b"2")), "as a file and as a folder", "Rename"),
    "two models": (zipped(("a.joblib", b"1"), ("b.onnx", b"2")), "'a.joblib', 'b.onnx'", "predict.py"),
    "no model": (zipped(("notes.md", "x")), "holds no model", "predict.py"),
    "deeper": (zipped(("notes.md", "x"), ("src/predict.py", "x")), "holds no model", "lies in 'src'"),
    "only junk": (zipped(("__MACOSX/x", b"1")), "holds no files", "Pack the folder"),
    "broken settings": (zipped(GOOD, ("slipway.toml", "model = ")), "slipway.toml: it is not TOML", "For example"),
    "unknown key": (zipped(GOOD, ("slipway.toml", "modle = 'x'")), "unknown keys: modle", "Known keys"),
    "wrong value": (zipped(GOOD, ("slipway.toml", "tags = 3")), "slipway.toml: tags", ""),
    "missing file": (zipped(GOOD, ("slipway.toml", "model = 'other.onnx'")), "'other.onnx'", "model.joblib"),
    "archive in archive": (zipped(("model.pkl", zipped(("x", b"1")))), "archive inside the archive", "into the folder"),
    "weights alone": (zipped(("model.safetensors", b"\x02\0\0\0\0\0\0\0{}")), "weights without", "predict.py"),
}  # fmt: skip


@pytest.mark.usefixtures("runner_host")
@pytest.mark.parametrize("case", REFUSED)
def test_what_nobody_should_open_is_refused_with_a_hint(push, settings, case) -> None:
    content, sentence, hint = REFUSED[case]
    done = push(content, "odd", filename="odd.zip")
    assert done.shown["status"] == "failed"
    assert done.error["check"] == "contents"
    assert sentence in done.error["message"]
    assert hint in done.error["hint"]
    version = ModelVersion.objects.get()
    assert not list(settings.ARTIFACT_DIR.glob(f"{version.sha256}/.tmp-*"))


@pytest.mark.usefixtures("runner_host")
@pytest.mark.parametrize("name", ["../up", "/etc/up", "a\\b"])
def test_a_tar_is_refused_by_the_same_rules(push, name) -> None:
    done = push(tarred(GOOD, (name, b"1")), "odd", filename="odd.tar.gz")
    assert (done.shown["status"], done.error["check"]) == ("failed", "contents")


def test_a_folder_in_another_compression_is_named(push) -> None:
    done = push(tarred(GOOD, mode="w:xz"), "odd", filename="odd.tar.gz")
    assert done.error["check"] == "format"
    assert ".tar.gz" in done.error["hint"]


# -- settings, signature, other machines ----------------------------------------------------------------------------------
SETTINGS = """
description = "Kinds of iris"
model = "second.joblib"
sample = "rows.csv"
target = "kind"

[tags]
team = "garden"

[output]
classes = ["setosa", "versicolor", "virginica"]
"""


def with_settings(tiny) -> bytes:
    iris = tiny["iris_joblib"]
    names = list(iris.rows[0])
    rows = "\n".join([",".join(names), *(",".join(map(str, row.values())) for row in iris.rows)])
    raw = iris.path.read_bytes()
    return zipped(("slipway.toml", SETTINGS), ("first.joblib", b"x"), ("second.joblib", raw), ("rows.csv", rows))


@pytest.mark.usefixtures("runner_host")
def test_slipway_toml_says_what_is_what_and_the_push_wins(push, tiny) -> None:
    done = push(with_settings(tiny), "iris", filename="iris.zip", metadata={"tags": {"team": "risk"}})
    assert done.shown["status"] == "ready", done.shown["findings"]
    version = ModelVersion.objects.get()
    assert (version.description, version.tags) == ("Kinds of iris", {"team": "risk"})
    assert version.contents["model"] == "second.joblib"
    assert version.schema["output"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert (version.datasets.get().filename, version.datasets.get().format) == ("rows.csv", "csv")


@pytest.mark.usefixtures("runner_host")
def test_the_members_are_signed(push, tiny) -> None:
    push(with_settings(tiny), "iris", filename="iris.zip")
    version = ModelVersion.objects.get()
    signing.verify_version(version)
    version.contents["members"][0]["sha256"] = "0" * 64
    with pytest.raises(errors.Conflict) as caught:
        signing.verify_version(version)
    assert caught.value.code == "signature_invalid"


@pytest.mark.usefixtures("runner_host")
def test_a_machine_without_the_folder_unpacks_it_again(push, tiny) -> None:
    push(
        zipped(("predict.py", "def predict(rows):\n    return [1] * len(rows)\n"), ("test_data.json", '[{"x": 1}]')),
        filename="one.zip",
    )
    version = ModelVersion.objects.get()
    root = artifacts.tree_of(version)
    shutil.rmtree(root.parent)
    spec = artifacts.spec_for(version)
    assert (root / "predict.py").read_bytes().startswith(b"def predict")
    assert (root / "predict.py").stat().st_mode & 0o777 == 0o444
    get_host().ensure(spec)

    (root / "predict.py").unlink()
    artifacts.restore(version)
    assert (root / "predict.py").exists()


@pytest.mark.usefixtures("runner_host")
def test_of_many_who_need_the_folder_one_unpacks(push, tiny, monkeypatch) -> None:
    push(
        zipped(("model.joblib", tiny["iris_joblib"].path.read_bytes())),
        filename="one.zip",
        sample=tiny["iris_joblib"].rows,
    )
    version = ModelVersion.objects.get()
    shutil.rmtree(artifacts.tree_of(version).parent)
    listed = []
    asked = type(get_host()).call

    def counted(host, spec, op, *args, **kwargs):
        listed.extend([op] if op == "unpack_list" else [])
        return asked(host, spec, op, *args, **kwargs)

    monkeypatch.setattr(type(get_host()), "call", counted)
    with ThreadPoolExecutor(4) as pool:
        found = [each.result() for each in [pool.submit(artifacts.materialise_tree, version) for _ in range(4)]]
    assert set(found) == {artifacts.tree_of(version)}
    assert listed == ["unpack_list"]


@pytest.mark.usefixtures("runner_host", "own_spool")
def test_a_zip_goes_live_and_answers_like_the_model_itself(push, tiny, world) -> None:
    churn = tiny["churn_pipeline"]
    data = json.dumps({"inputs": churn.rows, "expected": churn.expected})
    done = push(
        zipped(("c/churn.joblib", churn.path.read_bytes()), ("c/test_data.json", data)),
        "churn",
        filename="c.zip",
        deploy="churn",
    )
    assert done.shown["status"] == "ready", done.shown["findings"]
    answer = world.api("dan").post("/api/v1/predict/acme/churn", {"inputs": churn.rows}, format="json").json()
    assert answer["predictions"] == churn.expected
    assert answer["probabilities"] == [pytest.approx(row, abs=1e-5) for row in churn.probabilities]


@pytest.mark.usefixtures("runner_host")
def test_a_file_that_was_changed_on_disk_is_not_run(push) -> None:
    push(
        zipped(
            ("predict.py", "def predict(rows):\n    return [1] * len(rows)\n"),
            ("test_data.json", '[{"x": 1}]'),
            ("a.py", "A = 1"),
        ),
        filename="one.zip",
    )
    version = ModelVersion.objects.get()
    spec = artifacts.spec_for(version)
    beside = Path(spec.folder["root"]) / "a.py"
    beside.chmod(0o644)
    beside.write_text("A = 2")
    with pytest.raises(ArtifactInvalid):
        get_host().ensure(spec)
    artifacts.restore(version)
