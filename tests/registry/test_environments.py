"""A version with requirements: met by ours, or built as a set of its own from an index, once for all, and refused with a reason."""

from __future__ import annotations

import io
import sys
import threading
import uuid
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from mlops.core import clock, errors
from mlops.runtime.environments import builder, requirements, tree
from mlops.runtime.environments.gate import Gate
from mlops.runtime.environments.index import Index
from mlops.runtime.environments.installers import Installer
from mlops.runtime.errors import Explained
from mlops.runtime.host import get_host
from registry.models import Environment, ModelVersion
from registry.services import artifacts, environments
from tests.package_index import PackageIndex, wheel

pytestmark = pytest.mark.django_db
in_the_sandbox = pytest.mark.usefixtures("runner_host")


@pytest.fixture
def index(settings, tmp_path):
    made = PackageIndex()
    settings.PACKAGE_INDEX = made.url
    made.add("alpha", "1.0", needs=("beta>=1",), scripts="alpha=alpha:main")
    made.add("alpha", "2.0", needs=("beta<2",))
    made.add("beta", "1.5")
    made.add("beta", "2.0")
    yield made
    made.close()


@pytest.fixture
def own_folder(settings, tmp_path):
    """Sets of this test alone (the session's runner host does not take them)."""
    settings.ENVIRONMENTS_DIR = tmp_path / "environments"
    return settings.ENVIRONMENTS_DIR


def wished(text: str) -> Environment:
    return environments.environment_for(requirements.parse(text))


def folder(files: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


# -- through the door a user has ----------------------------------------------------------------------------------------
@in_the_sandbox
def test_a_version_with_requirements_is_built_and_runs_with_them(push, tiny, index) -> None:
    model = tiny["iris_joblib"]
    content = folder({"model.joblib": model.path.read_bytes(), "requirements.txt": "Alpha==1.0  # ours\nbeta<2\n"})
    pushed = push(content, "m", filename="m.zip", sample={"inputs": model.rows}, metadata={"schema": model.schema})
    assert pushed.shown["status"] == "ready", pushed.shown["findings"]
    assert "2 packages" in pushed.finding("dependencies")["message"]
    shown = pushed.shown["environment"]
    assert (shown["status"], [row["version"] for row in shown["packages"]]) == ("ready", ["1.0", "1.5"])
    version = ModelVersion.objects.get()
    spec = artifacts.spec_for(version)
    assert spec.environment is not None
    assert spec.environment["owner"] == str(version.organization_id)
    assert (Path(spec.environment["path"]) / "alpha" / "__init__.py").exists()
    assert get_host().ensure(spec).device
    get_host().unload(spec.key)


@in_the_sandbox
def test_what_ours_meet_needs_no_set(push, tiny, index) -> None:
    model = tiny["iris_joblib"]
    content = folder({"model.joblib": model.path.read_bytes(), "requirements.txt": "scikit-learn\nnumpy>=1\n"})
    pushed = push(content, "m", filename="m.zip", sample={"inputs": model.rows}, metadata={"schema": model.schema})
    assert (pushed.shown["status"], pushed.shown["environment"]) == ("ready", None), pushed.shown["findings"]
    assert "own libraries meet" in pushed.finding("dependencies")["message"]
    assert index.asked == []
    assert {line["level"] for line in pushed.shown["compatibility"]} == {"ok"}


@in_the_sandbox
@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("-e .", "requirements_invalid", "Line 1"),
        ("numpy\n--no-binary numpy", "requirements_invalid", "Line 2"),
        ("alpha @ https://x.example/alpha.whl", "requirements_invalid", "address"),
        ("alpha==9", "package_version_missing", "no version 9 of alpha"),
        ("alpha==2.0\nbeta>=2", "packages_conflict", "depends on beta<2"),
    ],
)
def test_requirements_that_cannot_be_had_fail_the_version_and_say_why(push, tiny, index, text, code, said) -> None:
    content = folder({"model.joblib": tiny["iris_joblib"].path.read_bytes(), "requirements.txt": text})
    pushed = push(content, "m", filename="m.zip")
    assert pushed.shown["status"] == "failed"
    assert pushed.shown["job"]["id"]
    assert (pushed.error["check"], said in pushed.error["message"]) == ("dependencies", True), pushed.error
    assert pushed.error["hint"]


@in_the_sandbox
def test_a_module_that_is_nowhere_is_named_with_the_line_to_add(push, index) -> None:
    code = "import numpy\nimport catboost\n\ndef predict(rows):\n    return [0 for _ in rows]\n"
    pushed = push(folder({"predict.py": code}), "m", filename="m.zip", sample=[{"a": 1.0}])
    assert pushed.shown["status"] == "failed"
    assert "catboost" in pushed.error["message"]
    assert "requirements.txt" in pushed.error["hint"]
    line = next(line for line in pushed.shown["compatibility"] if line["name"] == "catboost")
    assert line["level"] == "error"


# -- what an index may hold ---------------------------------------------------------------------------------------------
def _sdist(index: PackageIndex) -> None:
    index.add_file("bad", "bad-1.0.tar.gz", b"not looked at")


def _elsewhere(index: PackageIndex) -> None:
    index.links["bad"] = {"bad-1.0-py3-none-any.whl": "http://169.254.169.254/bad-1.0-py3-none-any.whl"}


def _broken(index: PackageIndex) -> None:
    name, content = wheel("bad", "1.0")
    index.add_file("bad", name, content[:-90])


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda index: None, "package_missing"),
        (_sdist, "no_wheel"),
        (_elsewhere, "package_elsewhere"),
        (_broken, "package_broken"),
        (lambda index: index.add("bad", "1.0", tag="cp38-cp38-win_amd64"), "no_wheel"),
        (lambda index: index.add("bad", "1.0", files={"bad.py": "", "../../climbed.py": "x"}), "package_refused"),
        (lambda index: index.add("bad", "1.0", files={"bad.py": "", "/tmp/climbed.py": "x"}), "package_refused"),
        (lambda index: index.add("bad", "1.0", files={"mlops/__init__.py": ""}), "package_refused"),
    ],
    ids=["missing", "sdist only", "another host", "damaged", "another platform", "climbs", "absolute", "ours"],
)  # fmt: skip
def test_what_nobody_should_install_is_refused_and_leaves_nothing(index, own_folder, make, code) -> None:
    make(index)
    environment = wished("bad")
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(environment)
    environment.refresh_from_db()
    assert (refused.value.code, environment.status, environment.error["code"]) == (code, "failed", code)
    assert refused.value.hint
    assert [entry.name for entry in own_folder.iterdir()] == [".locks"]
    assert not Path("/tmp/climbed.py").exists()  # noqa: S108


@pytest.mark.parametrize(
    "name",
    ["a/" * 1_200 + "deep.py", "bad\u2028.py"],
    ids=["folders without end", "a line's end"],
)
def test_names_that_would_trip_whoever_walks_the_tree_are_refused_and_leave_nothing(index, own_folder, name) -> None:
    index.add("bad", "1.0", files={"bad.py": "", name: ""})
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(wished("bad"))
    assert refused.value.code == "package_refused"
    assert [entry.name for entry in own_folder.iterdir()] == [".locks"]


def test_files_that_hold_nothing_count_too(index, own_folder, settings) -> None:
    index.add("many", "1.0", files={f"many/x{number}.txt": "" for number in range(3_000)})
    settings.ENVIRONMENT_BYTES = 4_000_000
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(wished("many"))
    assert refused.value.code == "environment_too_large"


@pytest.mark.parametrize("rows", ["x" * 200_000, '"' + "x,\n" * 100_000])
def test_a_list_of_files_that_cannot_be_read_is_told_of(tmp_path, rows) -> None:
    record = tmp_path / "bad-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text(rows)
    with pytest.raises(Explained, match="list of files"):
        tree.clean(tmp_path)


def test_a_list_of_files_without_end_is_not_read(tmp_path) -> None:
    record = tmp_path / "bad-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    with record.open("w") as file:
        file.truncate(33 << 20)
    with pytest.raises(Explained, match="more than 32 MB"):
        tree.clean(tmp_path)


def test_nothing_in_a_set_starts_by_itself(index, own_folder) -> None:
    index.add("hooky", "1.0", files={"hooky.py": "x = 1", "hooky.pth": "import os", "sitecustomize.py": "x"}, scripts="hooky=hooky:x")  # fmt: skip
    environment = environments.ensure(wished("hooky"))
    names = {path.name for path in environments.site_of(environment).iterdir()}
    assert names == {"hooky.py", "hooky-1.0.dist-info"}
    assert "hooky.pth was left out" in environment.log
    modes = {path.stat().st_mode & 0o777 for path in environments.site_of(environment).rglob("*")}
    assert modes == {0o444, 0o555}


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"ENVIRONMENT_PACKAGES": 1}, "environment_too_large"),
        ({"ENVIRONMENT_BYTES": 4_000_000}, "environment_too_large"),
    ],
)
def test_a_quota_ends_a_build(index, own_folder, settings, limits, code) -> None:
    index.add("large", "1.0", files={"large.py": "#" * 6_000_000}, needs=("beta",))
    for name, value in limits.items():
        setattr(settings, name, value)
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(wished("large"))
    assert refused.value.code in (code, "storage_full")


# -- once for all, and again --------------------------------------------------------------------------------------------
def test_the_same_wishes_are_one_set_and_built_once(index, own_folder) -> None:
    first = environments.ensure(wished("beta<2\nalpha==1.0"))
    asked = len(index.asked)
    again = environments.ensure(wished("# other words\nAlpha == 1.0\nBETA<2 ; python_version > '3'"))
    assert (again.pk, len(index.asked)) == (first.pk, asked)
    assert wished("alpha==1.0").pk != first.pk


def test_a_lost_folder_is_built_again_from_its_lock_and_is_equal(index, own_folder) -> None:
    built = environments.ensure(wished("alpha"))
    assert [row["name"] for row in built.packages] == ["alpha", "beta"]
    index.add("alpha", "3.0")  # what is newest now is not what was locked
    tree.remove(environments.folder_of(built))
    again = environments.ensure(built)
    assert (again.digest, again.built_at) == (built.digest, built.built_at)
    assert tree.whole(environments.folder_of(again), built.digest)


def test_a_file_that_changed_on_the_index_is_not_taken_for_the_locked_one(index, own_folder) -> None:
    built = environments.ensure(wished("beta==1.5"))
    tree.remove(environments.folder_of(built))
    index.add("beta", "1.5", files={"beta/__init__.py": "evil = True"})
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(built)
    assert refused.value.code in ("package_changed", "package_version_missing", "no_wheel")


def test_a_set_that_was_tampered_with_is_noticed(index, own_folder) -> None:
    built = environments.ensure(wished("beta"))
    place = environments.folder_of(built)
    tree._seen.clear()  # as another process would see it
    module = environments.site_of(built) / "beta" / "__init__.py"
    module.chmod(0o644)
    module.write_text("longer than it was, by far")
    assert not tree.whole(place, built.digest)


def test_sets_that_no_version_names_are_forgotten_after_a_week(index, own_folder) -> None:
    old, used = environments.ensure(wished("beta==1.5")), environments.ensure(wished("beta==2.0"))
    assert environments.forget() == {"environments": 0, "folders": 0}
    Environment.objects.filter(pk=old.pk).update(last_used_at=clock.now() - timedelta(days=8))
    assert environments.forget()["environments"] == 1
    assert sorted(entry.name for entry in own_folder.rglob("*") if len(entry.name) == 64) == [used.pk, used.pk]
    assert tree.whole(environments.folder_of(used), used.digest)


def test_a_set_that_a_version_names_is_never_forgotten(index, own_folder, a_model) -> None:
    built = environments.ensure(wished("beta"))
    ModelVersion.objects.update(environment=built)
    Environment.objects.update(last_used_at=clock.now() - timedelta(days=80))
    assert environments.forget()["environments"] == 0


@pytest.mark.django_db(transaction=True)
def test_two_who_wish_the_same_at_once_build_it_once(index, own_folder) -> None:
    environment = wished("alpha==1.0")
    told: dict[int, list[str]] = {0: [], 1: []}
    ended: dict[int, str] = {}

    def one(number: int) -> None:
        from django.db import connection

        try:
            mine = Environment.objects.get(pk=environment.pk)
            ended[number] = environments.ensure(mine, told[number].extend).status
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ended == {0: "ready", 1: "ready"}
    files = [path for path in index.asked if path.endswith("alpha-1.0-py3-none-any.whl")]
    assert 1 <= len(files) <= 4  # one build's: its size, its metadata, the file
    assert sum("Ready: 2 packages" in line for line in "\n".join(told[0] + told[1]).splitlines()) >= 1
    assert sum(line.startswith("Resolving") for line in Environment.objects.get().log.splitlines()) == 1


def test_a_build_that_was_killed_is_taken_over_and_one_that_goes_on_is_waited_for(index, own_folder, settings) -> None:
    environment = wished("beta")
    other = {"status": "building", "builder": uuid.uuid4(), "log": "half"}
    Environment.objects.update(**other, beat_at=clock.now())
    settings.ENVIRONMENT_BUILD_S = -29.5  # half a second of patience
    with pytest.raises(errors.NotReady):
        environments.ensure(environment)
    assert index.asked == []
    Environment.objects.update(beat_at=clock.now() - timedelta(minutes=1))
    settings.ENVIRONMENT_BUILD_S = 60
    assert environments.ensure(environment).status == "ready"


def test_a_builder_that_lost_its_place_writes_nothing(index, own_folder) -> None:
    environment = wished("beta")

    def another_takes_over(lines: list[str]) -> None:
        Environment.objects.update(builder=uuid.uuid4())

    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(environment, another_takes_over)
    environment.refresh_from_db()
    assert (refused.value.code, environment.status, environment.lock) == ("build_taken_over", "building", "")


def test_pip_builds_the_same_where_there_is_no_uv(index, own_folder, monkeypatch) -> None:
    built = environments.ensure(wished("alpha==1.0"))
    tree.remove(environments.folder_of(built))
    monkeypatch.setattr(builder, "installer", lambda: Installer("pip", ""))
    assert environments.ensure(built).digest == built.digest
    resolved = environments.ensure(wished("alpha==2.0"))
    assert [(row["name"], row["version"]) for row in resolved.packages] == [("alpha", "2.0"), ("beta", "1.5")]
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(wished("nowhere"))
    assert refused.value.code == "package_missing"


def test_what_stays_ours_must_suit_those_who_ask_for_it(index, own_folder) -> None:
    index.add("torch", "1.0")
    index.add("vision", "1.0", needs=("torch==1.0",))
    index.add("vision", "2.0", needs=("torch>=2",))
    suits = environments.ensure(wished("vision"))
    assert [row["name"] for row in suits.packages] == ["vision"]  # torch is ours
    with pytest.raises(errors.Invalid) as refused:
        environments.ensure(wished("vision==1.0"))
    assert (refused.value.code, "torch==1.0" in refused.value.hint) == ("packages_conflict", True)
    both = environments.ensure(wished("vision==1.0\ntorch==1.0"))
    assert [row["name"] for row in both.packages] == ["torch", "vision"]


def test_what_we_have_in_the_very_version_is_not_brought_once_more(index, own_folder) -> None:
    ours = builder.installed()["threadpoolctl"]
    index.add("gamma", "1.0", needs=("threadpoolctl", "beta<2"))
    index.add("threadpoolctl", ours)
    index.add("joblib", "0.1")  # another version than ours: that one is brought
    made = environments.ensure(wished("gamma\njoblib==0.1"))
    assert [row["name"] for row in made.packages] == ["beta", "gamma", "joblib"]
    assert f"# ours: threadpoolctl=={ours}" in made.lock
    assert not (environments.site_of(made) / "threadpoolctl").exists()
    tree.remove(environments.folder_of(made))
    assert environments.ensure(made).digest == made.digest  # from its lock, also where ours has moved on


def test_nobody_an_installer_left_behind_writes_into_a_finished_set(index, tmp_path, monkeypatch) -> None:
    leaves = "import os, time\nchild = os.fork()\nif child:\n    print('child', child)\nelse:\n    os.close(1); os.close(2); time.sleep(600)"
    words = (sys.executable, "-I", "-c", leaves)
    monkeypatch.setattr(Installer, "install_words", lambda installer, folder: words)
    said: list[str] = []
    builder.build(builder.Wanted("beta"), tmp_path / "set", Index(index.url), tell=said.append)
    child = next(line.split()[1] for line in said if line.startswith("child "))
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_everything_goes_through_the_machines_own_proxy_where_it_has_one(index, tmp_path) -> None:
    with Gate(Index(index.url)) as proxy:  # a gate is a proxy too
        behind = Index(index.url, proxy=f"http://somebody:secret@127.0.0.1:{proxy.port}")
        built = builder.build(builder.Wanted("alpha==1.0\n"), tmp_path / "set", behind)
    assert [name for name, _ in built.packages] == ["alpha", "beta"]
    assert proxy.received_bytes > 0


# -- on the page --------------------------------------------------------------------------------------------------------
def test_the_page_tells_packages_and_who_else_of_us_runs_with_them(index, own_folder, a_model, world) -> None:
    from registry.models import RegisteredModel
    from registry.services.projects import default_project

    built = environments.ensure(wished("alpha==1.0"))
    theirs = RegisteredModel.objects.create(
        organization=world.globex, project=default_project(world.globex), slug="secret", name="Secret plan"
    )
    facts = {"status": "failed", "file_key": "nowhere", "filename": "m.zip", "sha256": "0" * 64, "size_bytes": 3}
    ModelVersion.objects.create(organization=world.globex, model=theirs, number=1, **facts)
    ModelVersion.objects.create(organization=world.acme, model=a_model, number=2, **facts)
    line = {"name": "scikit-learn", "needs": "1.4.2", "here": "1.9.1", "level": "warning", "message": "It was <saved>", "hint": "Pin it."}  # fmt: skip
    ModelVersion.objects.update(environment=built, compatibility=[line])
    page = world.client("vic").get("/acme/models/fraud/versions/1/").content.decode()
    for text in (
        "Will it run here?",
        "It was &lt;saved&gt;",
        "Pin it.",
        "Environment",
        "alpha",
        "Fraud v2",
        "Ready: 2 packages",
    ):
        assert text in page, text
    assert "Secret plan" not in page
    assert world.client("mallory").get("/acme/models/fraud/versions/1/").status_code == 404


def test_the_validation_shows_the_build_while_it_goes_on(index, own_folder, a_model, world) -> None:
    environment = wished("alpha==1.0")
    Environment.objects.update(status="building", log="Resolving with uv\n  alpha 1.0", beat_at=clock.now())
    ModelVersion.objects.update(environment=environment, status="validating")
    page = world.client("vic").get("/acme/models/fraud/versions/1/validation/", headers={"HX-Request": "true"})
    assert ("alpha 1.0" in page.content.decode(), "being installed" in page.content.decode()) == (True, True)
