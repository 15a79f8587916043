"""Versions with a dependency set of their own: its libraries come first, hostile ones get nowhere, and importing is done once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops.runtime import libraries
from mlops.runtime.host import HostError, HostUnavailable, LoadFailed, LoadTimeout, ModelSpec, SandboxUnavailable
from mlops.runtime.inprocess import InProcessHost
from tests.bpf import verdict
from tests.runner_host import wait_until
from tests.runtime.set_world import TRIED, SetWorld

STARTED: list[SetWorld] = []
STAMP = "import os\nSTAMP = os.urandom(8).hex()\n"  # another one for each time that it is imported


@pytest.fixture(scope="module")
def held() -> Iterator[SetWorld]:
    """Sets have zygotes here, three at most."""
    world = SetWorld(sets=3)
    try:
        STARTED.append(world)
        world.start()
        if why := world.host.status()["sets"]["alone"]:
            pytest.skip(f"no user of its own for a set's zygote: {why}")
        yield world
    finally:
        STARTED.remove(world)
        world.stop()


@pytest.fixture(scope="module")
def alone() -> Iterator[SetWorld]:
    """Every runner imports its set itself, as where runnerd is not root."""
    world = SetWorld(sets=0)
    try:
        STARTED.append(world)
        world.start()
        yield world
    finally:
        STARTED.remove(world)
        world.stop()


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Each test begins with places for its sets."""
    yield
    for world in STARTED:
        world.clear()


@pytest.fixture(params=["held", "alone"])
def world(request: pytest.FixtureRequest) -> SetWorld:
    return request.getfixturevalue(request.param)


@pytest.fixture
def neighbour(world: SetWorld) -> ModelSpec:
    """A model of somebody else with the same set, answering."""
    spec = world.model(
        "import greet\nreturn [greet.WORD for _ in X]", world.environment({"greet.py": "WORD = 'well'\n"}, "8")
    )
    assert world.answer(spec) == "well"
    return spec


def users(uid: int) -> list[int]:
    """The living processes of a user."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == uid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


# -- what is imported from where ------------------------------------------------------------------------------------------


def test_the_sets_version_of_a_library_answers_and_ours_stays_what_it_is(world: SetWorld) -> None:
    import packaging

    own = Path(sysconfig.get_path("purelib")) / "packaging"
    files = {f"packaging/{path.name}": path.read_text() for path in own.glob("*.py")}
    files["packaging/__init__.py"] = files["packaging/__init__.py"].replace(packaging.__version__, "19.0")
    files["packaging-19.0.dist-info/METADATA"] = "Name: packaging\nVersion: 19.0\n"
    body = "import packaging.version, numpy\nreturn [f'{packaging.__version__} {numpy.__version__}' for _ in X]"
    import numpy as np

    assert world.answer(world.model(body, world.environment(files))) == f"19.0 {np.__version__}"
    assert world.answer(world.model(body)) == f"{packaging.__version__} {np.__version__}"


def test_path_files_stay_dead_and_the_standard_library_stays_in_front(world: SetWorld) -> None:
    files = {
        "evil.pth": f"import os; open({str(world.marker)!r}, 'w').close(); os.environ['PTH'] = '1'\n",
        "json.py": "dumps = None\n",
        "sitecustomize.py": "import os; os.environ['PTH'] = '1'\n",
    }
    body = (
        "import json, os\nreturn [json.dumps([os.environ.get('PTH'), os.environ['JOBLIB_MULTIPROCESSING']]) for _ in X]"
    )
    assert world.answer(world.model(body, world.environment(files))) == '[null, "0"]'
    assert not world.marker.exists()


def test_our_libraries_that_cannot_live_with_the_sets_are_as_if_not_installed(tmp_path: Path) -> None:
    known = libraries.ours()
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy-1.2.0.dist-info").mkdir()
    assert {"pandas", "sklearn", "scipy"} <= libraries.hidden(str(tmp_path), known)
    assert not {"numpy", "orjson", "django"} & libraries.hidden(str(tmp_path), known)
    import numpy as np

    (tmp_path / "numpy-1.2.0.dist-info").rename(tmp_path / f"numpy-{np.__version__}.dist-info")
    assert not libraries.hidden(str(tmp_path), known)


def test_a_library_that_cannot_live_with_the_sets_says_so_when_it_is_asked_for(world: SetWorld) -> None:
    environment = world.environment(
        {"joblib/__init__.py": "", "joblib-0.1.dist-info/METADATA": "Name: joblib\nVersion: 0.1\n"}
    )
    with pytest.raises(LoadFailed) as caught:
        world.host.ensure(world.pickle("return [1 for _ in X]", environment))
    assert "joblib" in caught.value.detail  # ours was not put in its place


def test_a_set_whose_numpy_is_broken_is_told_as_such(world: SetWorld, neighbour: ModelSpec) -> None:
    environment = world.environment({"numpy/__init__.py": "raise RuntimeError('built for another machine')\n"})
    with pytest.raises(LoadFailed) as caught:
        world.host.ensure(world.model("return [1 for _ in X]", environment))
    assert "built for another machine" in caught.value.detail + str(caught.value.fields)
    assert world.answer(neighbour) == "well"


# -- imported once --------------------------------------------------------------------------------------------------------


def test_the_second_runner_of_a_set_imports_nothing_again(held: SetWorld) -> None:
    environment = held.environment({"costly.py": STAMP}, modules=["costly"])
    body = "import costly\nreturn [costly.STAMP for _ in X]"
    first, second = (held.model(body, environment, name=name) for name in ("first", "second"))
    assert held.answer(first) == held.answer(second)
    assert held.runner(first) != held.runner(second)
    zygote = held.zygote(environment)
    assert {psutil.Process(held.runner(spec)).ppid() for spec in (first, second)} == {zygote["pid"]}
    assert zygote["runners"] == 2
    assert zygote["bytes"] > 0


def test_where_there_are_no_zygotes_each_runner_imports_for_itself(alone: SetWorld) -> None:
    environment = alone.environment({"costly.py": STAMP}, modules=["costly"])
    body = "import costly\nreturn [costly.STAMP for _ in X]"
    assert len({alone.answer(alone.model(body, environment, name=name)) for name in ("first", "second")}) == 2
    assert alone.zygotes() == []


def test_owners_do_not_share_a_zygote(held: SetWorld) -> None:
    ours, theirs = (held.environment({"shared.py": STAMP}, owner, modules=["shared"]) for owner in ("7", "8"))
    body = "import shared\nreturn [shared.STAMP for _ in X]"
    assert held.answer(held.model(body, ours)) != held.answer(held.model(body, theirs))
    assert held.zygote(ours)["user"] != held.zygote(theirs)["user"]


def test_a_set_is_locked_in_as_the_kernel_sees_it(held: SetWorld) -> None:
    environment = held.environment({"greet.py": "WORD = 'well'\n"})
    held.host.ensure(held.model("return [1 for _ in X]", environment))
    found = held.zygote(environment)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{found['pid']}/status").read_text().splitlines() if ":\t" in line
    )
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16)) == ("1", "2", 0)
    assert set(status["Uid"].split()) == {str(found["user"])}


def test_sets_that_nobody_uses_make_room(held: SetWorld) -> None:
    made = [held.environment({f"m{number}.py": ""}, "9") for number in range(4)]
    for environment in made:
        spec = held.model("return [1 for _ in X]", environment)
        held.host.ensure(spec)
        held.host.unload(spec.key)
        wait_until(lambda environment=environment: held.zygote(environment)["runners"] == 0)
    assert len(held.zygotes()) <= 3
    assert not held.zygote(made[0])
    assert held.zygote(made[3])


def test_a_set_that_has_no_runner_any_more_ends_after_a_while() -> None:
    world = SetWorld(sets=2, sets_idle_s=0)
    try:
        world.start()
        if why := world.host.status()["sets"]["alone"]:
            pytest.skip(f"no user of its own for a set's zygote: {why}")
        environment = world.environment({"greet.py": ""})
        spec = world.model("return [1 for _ in X]", environment)
        world.host.ensure(spec)
        user = world.zygote(environment)["user"]
        world.host.unload(spec.key)
        wait_until(lambda: not world.zygote(environment))
        wait_until(lambda: not users(user))
        assert world.answer(spec) == 1
    finally:
        world.stop()


def test_a_killed_zygote_takes_its_own_runners_and_is_there_again(held: SetWorld) -> None:
    environment = held.environment({"again.py": STAMP}, modules=["again"])
    spec = held.model("import again\nreturn [again.STAMP for _ in X]", environment)
    other = held.model("return ['other' for _ in X]", held.environment({"other.py": ""}, "8"))
    before, _ = held.answer(spec), held.answer(other)
    neighbour, uid = held.runner(other), held.zygote(environment)["user"]
    psutil.Process(held.zygote(environment)["pid"]).kill()
    wait_until(lambda: not users(uid))
    assert held.answer(spec) != before
    assert held.runner(other) == neighbour


def test_what_is_lent_goes_when_the_runner_has_gone(held: SetWorld) -> None:
    environment = held.environment({"lent.py": ""})
    spec = held.model("return [1 for _ in X]", environment)
    held.host.ensure(spec)
    lent = Path(str(held.running.run_dir) + ".sets")
    folder = next(path for path in lent.iterdir() if path.name.endswith(environment["id"][:16]))
    assert [path.name for path in folder.rglob("*.py")] == [Path(spec.path).name]
    assert folder.stat().st_mode & 0o007 == 0
    held.host.unload(spec.key)
    wait_until(lambda: not list(folder.rglob("*.py")))
    assert Path(spec.path).exists()


# -- hostile sets ---------------------------------------------------------------------------------------------------------

REFUSALS = {"PermissionError", "FileNotFoundError", "OSError", "ValueError"}
ATTACKS = {
    "read": "open('/etc/passwd')",
    "leave a marker": "open(MARKER, 'w')",
    "change the set": "open(os.path.join(os.path.dirname(__file__), 'more.py'), 'w')",
    "list the artifacts": "os.listdir(ARTIFACTS)",
    "socket": "socket.socket()",
    "unix socket": "socket.socket(socket.AF_UNIX)",
    "another socket's peer": "socket.socket(fileno=os.dup(4)).connect(MARKER)",
    "start a program": "os.execv('/bin/true', ['/bin/true'])",
    "kill the parent": "os.kill(os.getppid(), 9)",
    "kill everybody": "os.kill(-1, 9)",
    "trace": "raw('ptrace', 16, os.getppid(), 0, 0)",
    "new namespace": "raw('unshare', 0x10000000)",
    "live on": "raw('prctl', 1, 0, 0, 0, 0)",
    "be root": "os.setuid(0)",
    "more memory": "__import__('resource').setrlimit(9, (-1, -1))",
}  # fmt: skip


def test_what_a_set_tries_while_it_is_imported_is_refused(world: SetWorld) -> None:
    code = (
        f"import os, socket\nMARKER, ARTIFACTS = {str(world.marker)!r}, {str(world.artifacts)!r}\n{TRIED}\n"
        "def raw(name, *words):\n"
        "    from mlops.runtime import syscalls\n"
        "    result, number = syscalls.call(name, *words)\n"
        "    if result < 0:\n        raise OSError(number, name)\n"
        "SAID = {}\n"
    ) + "".join(f"SAID[{name!r}] = tried(lambda: {code})\n" for name, code in ATTACKS.items())
    environment = world.environment({"hostile.py": code}, modules=["hostile"])
    said = world.answer(world.model("import hostile, json\nreturn [json.dumps(hostile.SAID) for _ in X]", environment))
    answers = json.loads(said)
    assert answers.keys() == ATTACKS.keys()
    got_through = {name: how for name, how in answers.items() if how not in REFUSALS}
    assert not got_through
    assert not world.marker.exists()


CRASHES = {
    "import ctypes\nctypes.string_at(0)\n": "SIGSEGV",
    "import os\nos._exit(3)\n": "exit 3",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n": "SIGKILL",
}


@pytest.mark.parametrize("code", CRASHES)
def test_a_module_that_ends_the_zygote_is_named(held: SetWorld, code: str) -> None:
    well = held.model("return ['well' for _ in X]", held.environment({"fine.py": ""}, "8"))
    assert held.answer(well) == "well"
    runner = held.runner(well)
    environment = held.environment({"fine.py": "", "boom.py": code}, modules=["fine", "boom"])
    with pytest.raises(LoadFailed) as caught:
        held.host.ensure(held.model("return [1 for _ in X]", environment))
    assert "boom" in caught.value.detail
    assert CRASHES[code] in caught.value.detail
    assert caught.value.hint
    assert held.runner(well) == runner
    assert held.answer(well) == "well"


def test_a_module_that_hangs_is_named(held: SetWorld) -> None:
    environment = held.environment({"forever.py": "import time\nwhile True: time.sleep(1)\n"}, modules=["forever"])
    with pytest.raises(LoadFailed, match="forever did not finish"):
        held.host.ensure(held.model("return [1 for _ in X]", environment, load_s=2))
    assert not held.zygote(environment)


def test_a_module_that_hangs_alone_is_stopped_too(alone: SetWorld) -> None:
    environment = alone.environment({"forever.py": "import time\nwhile True: time.sleep(1)\n"})
    body, first = (
        "return [1 for _ in X]",
        alone.environment({"numpy/__init__.py": "import forever\n", "forever.py": "while True: pass\n"}),
    )
    with pytest.raises(LoadTimeout):
        alone.host.ensure(alone.model(body, first, load_s=2))
    assert alone.answer(alone.model(body, environment)) == 1


def test_a_module_that_raises_costs_only_those_who_need_it(held: SetWorld) -> None:
    environment = held.environment({"bad.py": "raise SystemExit('no')\n"}, modules=["bad"])
    assert held.answer(held.model("return ['well' for _ in X]", environment)) == "well"
    assert held.zygote(environment)["failed"] == {"bad": "SystemExit"}


def test_processes_that_a_set_cuts_loose_end_with_it(held: SetWorld) -> None:
    """Each forks once more and lets its parent end, so that no death signal reaches it."""
    code = (
        "import os, time\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork():\n            os._exit(0)\n"
        "        while True: time.sleep(1)\n"
        "    os.wait()\n"
    )
    environment = held.environment({"loose.py": code}, modules=["loose"])
    spec = held.model("return [1 for _ in X]", environment)
    held.host.ensure(spec)
    found = held.zygote(environment)
    assert len(users(found["user"])) == 1 + 1 + 5
    psutil.Process(found["pid"]).kill()
    wait_until(lambda: not users(found["user"]))


def test_a_fork_bomb_stays_within_its_users_number_of_processes(held: SetWorld) -> None:
    code = (
        "import os, time\nCOUNT = 0\n"
        "while True:\n"
        "    try:\n        pid = os.fork()\n    except OSError:\n        break\n"
        "    if pid == 0:\n        while True: time.sleep(60)\n"
        "    COUNT += 1\n"
    )
    environment = held.environment({"bomb.py": code}, modules=["bomb"])
    well = held.model("return ['well' for _ in X]", held.environment({"fine.py": ""}, "8"))
    assert held.answer(well) == "well"
    with pytest.raises(HostError):  # there is no room left for a runner
        held.host.ensure(held.model("return [1 for _ in X]", environment))
    assert held.answer(well) == "well"
    wait_until(lambda: not held.zygote(environment), 30)


LIES = {
    "a process of somebody else": "{'forked': request['id'], 'pid': VICTIM}",
    "nonsense": "['a']",
    "a very long word": "{'forked': request['id'], 'pid': 'x' * 5000}",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_zygote_that_lies_is_ended_and_nobody_else(held: SetWorld, lie: str) -> None:
    well = held.model("return ['well' for _ in X]", held.environment({"fine.py": ""}, "8"))
    assert held.answer(well) == "well"
    victim = held.runner(well)
    code = (
        "import orjson, socket\nfrom mlops.runtime import zygote\n"
        f"VICTIM = {victim}\n"
        "def lie(control, request, *rest):\n"
        f"    control.send(orjson.dumps({LIES[lie]}))\n"
        "zygote._fork = lie\n"
    )
    environment = held.environment({"liar.py": code}, modules=["liar"])
    refused = 0
    while not refused or held.zygote(
        environment
    ):  # in a namespace of its own a wrong number might be that of a process that ended
        refused += 1
        with pytest.raises(HostError):
            held.host.ensure(held.model("return [1 for _ in X]", environment))
        assert refused < 10
    wait_until(lambda: not held.zygote(environment))
    assert held.runner(well) == victim
    assert held.answer(well) == "well"


def test_a_leak_that_a_set_makes_up_stops_that_set_alone(held: SetWorld) -> None:
    well = held.model("return ['well' for _ in X]", held.environment({"fine.py": ""}, "8"))
    assert held.answer(well) == "well"
    code = (
        "from mlops.runtime import sandbox\n"
        "def enter(policy, parent):\n    raise sandbox.SandboxError('landlock', 'made up')\n"
        "sandbox.enter = enter\n"
    )
    environment = held.environment({"alarm.py": code}, modules=["alarm"])
    model = held.model("return [1 for _ in X]", environment)

    def refused() -> str:
        try:
            held.host.ensure(model)
        except SandboxUnavailable as error:
            return error.detail
        except HostUnavailable:  # its runner had ended before anybody could look at it
            return ""
        pytest.fail("a runner that was not locked in was taken")

    assert "made up" in wait_until(refused)
    assert held.host.status()["proof"]["ok"]
    assert held.answer(well) == "well"


def test_a_flood_of_messages_ends_the_zygote_that_sends_it(held: SetWorld) -> None:
    code = (
        "import socket, threading\n"
        "def flood():\n"
        "    line = socket.socket(fileno=4)\n"
        '    while True: line.send(b\'{"exited": 1, "status": 0}\')\n'
        "threading.Thread(target=flood, daemon=True).start()\n"
        "import time; time.sleep(30)\n"
    )
    environment = held.environment({"flood.py": code}, modules=["flood"])
    with pytest.raises(HostError):
        held.host.ensure(held.model("return [1 for _ in X]", environment))
    assert not held.zygote(environment)


def test_words_without_end_about_a_runner_that_lives_end_the_zygote_too(held: SetWorld) -> None:
    """Each of them is about a child of its own: heard for ever, they would keep runnerd from everybody else."""
    code = (
        "import orjson\nfrom mlops.runtime import zygote\nTELL = zygote._tell\n"
        "def tell(control, message, *rest):\n"
        "    TELL(control, message, *rest)\n"
        "    for _ in range(200 if 'pid' in message else 0): TELL(control, {'exited': message['pid'], 'status': 0})\n"
        "zygote._tell = tell\n"
    )
    environment = held.environment({"told.py": code}, modules=["told"])
    with contextlib.suppress(HostError):  # it may be ended before or after its runner is there
        held.host.ensure(held.model("return [1 for _ in X]", environment))
    wait_until(lambda: not held.zygote(environment))


def test_a_set_that_skips_its_runners_own_lock_down_still_reaches_only_its_own_models(held: SetWorld) -> None:
    """The worst that a set can do: the lock-down of its zygote is all that is left."""
    stranger = held.model("return ['secret' for _ in X]", held.environment({"fine.py": ""}, "8"))
    held.host.ensure(stranger)
    lent = Path(str(held.running.run_dir) + ".sets")
    foreign = next(path for path in lent.rglob(Path(stranger.path).name))
    code = (
        f"import os, socket\n{TRIED}\n"
        "from mlops.runtime import sandbox\n"
        "sandbox.enter = lambda policy, parent: None\nsandbox.check = lambda path: None\n"
        "def said():\n"
        f"    paths = [{str(foreign)!r}, {stranger.path!r}, '/etc/passwd', '/proc/1/environ']\n"
        "    tries = [lambda path=path: open(path) for path in paths]\n"
        f"    tries += [socket.socket, lambda: open({str(held.marker)!r}, 'w'), lambda: os.kill(1, 9), lambda: os.kill(-1, 9)]\n"
        "    tries += [lambda: os.execv('/bin/true', ['/bin/true']), lambda: os.setuid(0)]\n"
        "    return ' '.join(tried(each) for each in tries)\n"
    )
    environment = held.environment({"lax.py": code}, modules=["lax"])
    said = held.answer(held.model("import lax\nreturn [lax.said() for _ in X]", environment)).split()
    assert len(said) == 10
    assert set(said) <= {"PermissionError", "FileNotFoundError", "OSError"}
    assert not held.marker.exists()


def test_an_honest_runner_cannot_read_another_model_of_its_own_set(held: SetWorld) -> None:
    environment = held.environment({"both.py": TRIED}, modules=["both"])
    other = held.model("return [1 for _ in X]", environment)
    held.host.ensure(other)
    lent = next(Path(str(held.running.run_dir) + ".sets").rglob(Path(other.path).name))
    body = f"import both, os\nreturn [both.tried(lambda: open({str(lent)!r})) + both.tried(os.fork) for _ in X]"
    assert held.answer(held.model(body, environment)) == "PermissionErrorPermissionError"


# -- the folder -----------------------------------------------------------------------------------------------------------


def outside(world: SetWorld, environment: dict[str, Any]) -> dict[str, Any]:
    target = world.folder / environment["id"]
    shutil.copytree(Path(environment["path"]), target / "site")
    return environment | {"path": str(target / "site")}


def misnamed(world: SetWorld, environment: dict[str, Any]) -> dict[str, Any]:
    return environment | {"id": "0" * 64}


def open_to_all(world: SetWorld, environment: dict[str, Any]) -> dict[str, Any]:
    os.chmod(environment["path"], 0o777)
    return environment


def linked(world: SetWorld, environment: dict[str, Any]) -> dict[str, Any]:
    site = Path(environment["path"])
    site.rename(site.with_name("elsewhere"))
    site.symlink_to(site.with_name("elsewhere"))
    return environment


def missing(world: SetWorld, environment: dict[str, Any]) -> dict[str, Any]:
    shutil.rmtree(environment["path"])
    return environment


def climbing(world: SetWorld, environment: dict[str, Any]) -> dict[str, Any]:
    return environment | {"path": f"{environment['path']}/../../../{environment['id']}/site"}


@pytest.mark.parametrize("spoil", [outside, misnamed, open_to_all, linked, missing, climbing])
def test_a_folder_that_is_not_what_it_should_be_is_refused(alone: SetWorld, spoil: Any) -> None:
    environment = spoil(alone, alone.environment({f"{spoil.__name__}.py": ""}))
    with pytest.raises(HostError) as caught:
        alone.host.ensure(alone.model("return [1 for _ in X]", environment))
    assert caught.value.code == "artifact_invalid"
    assert caught.value.hint


def test_the_same_model_under_another_set_is_another_one(world: SetWorld) -> None:
    body, name = "import word\nreturn [word.WORD for _ in X]", f"switched-{world.folder.name}"
    for said in ("first", "second"):
        environment = world.environment({"word.py": f"WORD = {said!r}\n"})
        assert world.answer(world.model(body, environment, name=name)) == said


def test_the_web_process_never_takes_a_set(alone: SetWorld) -> None:
    spec = alone.model("return [1 for _ in X]", alone.environment({"greet.py": ""}))
    with pytest.raises(LoadFailed) as caught:
        InProcessHost(1 << 30).ensure(spec)
    assert caught.value.fields["reason"] == "needs_runner"
    assert "runnerd" in caught.value.hint


# -- the wider filter -----------------------------------------------------------------------------------------------------

ALLOW = 0x7FFF0000


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("name", "args", "allowed"),
    [
        ("clone", (17,), True),
        ("clone", (0x10000000 | 17,), False),  # a user namespace
        ("clone", (0x20000 | 17,), False),
        ("clone", (0x8000 | 17,), False),  # a child of our parent's
        ("prctl", (1, 9), True),
        ("prctl", (1, 0), False),
        ("prctl", (38, 1), True),
        ("prctl", (36, 1), False),  # take in orphans
        ("tgkill", (1, 1, 9), False),
        ("kill", (1, 9), False),
        ("seccomp", (1, 1), True),
        ("seccomp", (0, 0), False),
        ("socket", (1, 1, 0), False),
        ("execve", (), False),
        ("ptrace", (), False),
        ("connect", (), False),
        ("unshare", (), False),
        ("recvmsg", (), True),
    ],
)
def test_the_filter_of_a_sets_zygote_opens_forking_and_no_more(
    machine: str, name: str, args: tuple[int, ...], allowed: bool
) -> None:
    assert (verdict(machine, name, *args, forks=True) == ALLOW) is allowed
