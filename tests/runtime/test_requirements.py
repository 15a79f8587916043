"""What is taken from an uploaded requirements file, what a set is called by, and what a model's file says about libraries."""

from __future__ import annotations

import pickle
import sys

import joblib
import pytest
from packaging.requirements import Requirement

from mlops.runtime import syscalls
from mlops.runtime.environments import confine, gate, requirements, skew
from mlops.runtime.environments.index import Index
from mlops.runtime.environments.requirements import RequirementsError, parse


# -- reading ------------------------------------------------------------------------------------------------------------
def test_names_versions_markers_and_comments_are_understood_and_written_our_way() -> None:
    text = "\n".join(
        (
            "# what it needs",
            "Scikit_Learn[Alpha,beta] >= 1.4, <2  # not the newest",
            "",
            "numpy==2.1.0 \\",
            "    --hash=sha256:0123 \\",
            "    --hash=sha256:4567",
            "pandas; python_version >= '3'",
            "pywin32; sys_platform == 'win32'",
        )
    )
    found = parse(text)
    assert found.text == "numpy==2.1.0\npandas\nscikit-learn[alpha,beta]<2,>=1.4\n"
    assert found.left_out == ("pywin32; sys_platform == 'win32'",)
    assert parse(found.text) == parse(found.text)


def test_a_package_that_is_named_twice_must_suit_both_lines() -> None:
    assert parse("beta>=1\nBeta<2\nbeta[x]").text == "beta[x]<2,>=1\n"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("-r other.txt", "another file"),
        ("-c limits.txt", "constraints"),
        ("-e .", "folder to install from"),
        ("--index-url https://packages.example/simple", "another package index"),
        ("--extra-index-url=https://packages.example/simple", "another package index"),
        ("-f wheels", "another place"),
        ("--no-binary numpy", "how packages are built"),
        ("--only-binary :none:", "how packages are built"),
        ("--pre", "pre-releases"),
        ("--config-settings x", "is not taken"),
        ("alpha @ https://packages.example/alpha.whl", "address"),
        ("alpha @ file:///etc/passwd", "address"),
        ("https://packages.example/alpha.whl", "address"),
        ("git+https://packages.example/alpha", "repository"),
        ("alpha @ git+ssh://packages.example/alpha", "repository"),
        ("./alpha", "file or folder"),
        ("/opt/alpha", "file or folder"),
        ("wheels/alpha-1.0-py3-none-any.whl", "file or folder"),
        ("alpha.tar.gz", "file or folder"),
        ("alpha==1 --no-deps", "option"),
        ("alpha beta", "not understood"),
        ("alpha==", "not understood"),
        ("${HOME}", "not understood"),
        ("alpha\x00", "control character"),
    ],
)
def test_everything_else_is_refused_with_its_line_and_a_way_out(line: str, word: str) -> None:
    with pytest.raises(RequirementsError) as refused:
        parse(f"numpy\n\n{line}\n")
    assert (refused.value.line, word in refused.value.message) == (3, True), refused.value.message
    assert refused.value.message.startswith("Line 3: ")
    assert refused.value.hint


@pytest.mark.parametrize("text", ["a\n" * 201, "# " + "x" * 64_000])
def test_a_file_that_is_too_long_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(RequirementsError) as refused:
        parse(text)
    assert refused.value.line == 0


def test_a_continued_option_is_still_an_option() -> None:
    with pytest.raises(RequirementsError) as refused:
        parse("numpy \\\n  --no-binary=numpy")
    assert refused.value.line == 1


def test_a_set_is_known_by_what_it_holds() -> None:
    def name(text: str, **changes: str) -> str:
        facts = {"python": "cp311", "platform": "linux", "index": "here", **changes}
        return requirements.identity(parse(text).text, **facts)

    assert name("b\na==1") == name("A == 1  # x\nb ; python_version > '3'")
    assert len({name("a==1"), name("a==1.0"), name("a==1", python="cp312"), name("a==1", index="there")}) == 4


def test_what_is_here_is_told_from_what_is_not() -> None:
    here = {"numpy": "2.4.6", "torch": "2.13.0+cpu", "xgboost-cpu": "3.2.0", "big": "1.0", "small": "0.5"}
    asked = {("big", "fast"): [Requirement("small>=1")]}

    def missing(text: str) -> list[str]:
        found = requirements.unsatisfied(parse(text).wanted, here.get, lambda name, extra: asked.get((name, extra), []))
        return [one.name for one in found]

    assert missing("numpy>=2\ntorch==2.13.0\nxgboost==3.2.0\nbig") == []
    assert missing("numpy<2\nnowhere\nbig[fast]") == ["big", "nowhere", "numpy"]


# -- will it run here ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["2", "4", "5", "joblib", "gzip", "xz"])
def test_the_version_a_pickle_was_saved_with_is_read_from_its_bytes(tmp_path, monkeypatch, how: str) -> None:
    from sklearn.linear_model import LinearRegression

    monkeypatch.setattr("sklearn.base.__version__", "1.4.2")
    model, path = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), tmp_path / "m.pkl"
    if how.isdigit():
        path.write_bytes(pickle.dumps(model, protocol=int(how)))
    else:
        joblib.dump(model, path, compress=0 if how == "joblib" else (how, 3))
    assert skew.saved_with(path, "sklearn") == {"scikit-learn": "1.4.2"}


def test_a_file_that_says_nothing_or_is_broken_says_nothing(tmp_path) -> None:
    (tmp_path / "m").write_bytes(b"\x80\x04N.")
    assert (skew.saved_with(tmp_path / "m", "sklearn"), skew.saved_with(tmp_path / "m", "skops")) == ({}, {})


@pytest.mark.parametrize(
    ("name", "needs", "here", "level"),
    [
        ("scikit-learn", "1.9.0", "1.9.1", "ok"),
        ("scikit-learn", "1.4.2", "1.9.1", "warning"),
        ("scikit-learn", "1.4.2", None, "error"),
        ("torch", "2.1.0", "2.13.0+cpu", "ok"),
        ("torch", "3.0.0", "2.13.0+cpu", "warning"),
    ],
)
def test_versions_are_compared_as_their_libraries_keep_their_files(name, needs, here, level) -> None:
    line = skew.compare(name, needs, here, own_set=False)
    assert (line.level, bool(line.hint)) == (level, level != "ok")
    if line.hint:
        assert f"{name}=={needs}" in line.hint


def test_imports_of_code_are_read_without_running_it() -> None:
    code = (
        "import os, lightgbm.basic\nfrom . import own\nfrom helpers import clean\nraise SystemExit('run')\n"
        "try:\n    import catboost\nexcept ImportError:\n    catboost = None\n\ndef predict(rows):\n    import shap\n"
    )
    provided = skew.Provided(lambda name: None, frozenset({"helpers"}))
    lines = {line.name: line.level for line in skew.import_lines(skew.in_code(code, "predict.py"), provided)}
    assert lines == {"lightgbm": "error", "catboost": "warning", "shap": "warning"}
    assert skew.in_code("def broken(", "predict.py") == []
    assert skew.in_code("-" * 100_000 + "1", "predict.py") == []  # more than Python's parser has room for


def test_the_line_to_add_is_the_name_on_the_index() -> None:
    found = skew.in_pickle(["sklearn.tree._classes.X", "builtins.list", "umap.umap_.UMAP"], "model.joblib")
    lines = skew.import_lines(found, skew.Provided(lambda name: None, frozenset({"sklearn"})))
    assert [line.hint.partition(" to ")[0] for line in lines] == ["Add `umap-learn`"]


def test_another_python_is_told() -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    levels = [line.level if (line := skew.python_line(text)) else None for text in (f"{here}.4", "3.6", "", "pypy")]
    assert levels == ["ok", "warning", None, None]


def test_mlflow_itself_is_not_needed_to_predict() -> None:
    text, left_out = skew.of_mlflow("mlflow==2.9.2\nscikit-learn==1.4.2\nmlflow-skinny[x]>=2")
    assert (text, left_out) == ("scikit-learn==1.4.2", ("mlflow==2.9.2", "mlflow-skinny[x]>=2"))


# -- the way out and the cell -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("fd00::1", True),
        ("::ffff:192.168.0.1", True),
        ("100.64.0.1", True),
        ("9.9.9.9", False),
        ("2620:fe::fe", False),
    ],
)
def test_addresses_inside_our_own_network_are_known(address: str, inside: bool) -> None:
    assert gate._is_inside(address) is inside


def test_an_index_nobody_wrote_down_may_not_lie_inside_our_network() -> None:
    import socket

    unwritten = Index("http://localhost:1/simple", unwritten=frozenset({"localhost"}))
    with gate.Gate(unwritten) as door, socket.create_connection(("127.0.0.1", door.port), 5) as call:
        call.sendall(b"CONNECT localhost:1 HTTP/1.1\r\n\r\n")
        answer = call.recv(1000)
    assert (b"403" in answer, b"inside our own network" in answer) == (True, True)
    assert door.refused == ["localhost:1"]


@pytest.mark.parametrize(
    "words", ["CONNECT 127.0.0.1:{port}", "GET http://127.0.0.1:{port}/", "GET http://127.0.0.1:{index}/\nHost:"]
)
def test_what_else_listens_beside_an_index_is_not_reached(words: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as own:
        port, index = other.getsockname()[1], own.getsockname()[1]
        for told in (Index(f"http://127.0.0.1:{index}/simple"), Index("http://127.0.0.1:1/", hosts=frozenset({f"127.0.0.1:{index}"}))):  # fmt: skip
            with gate.Gate(told) as door, socket.create_connection(("127.0.0.1", door.port), 5) as call:
                call.sendall(f"{words.format(port=port, index=index)} HTTP/1.1\r\n\r\n".encode())
                call.settimeout(5)
                assert b"403" in call.recv(1000)


def test_credentials_of_an_index_are_not_shown() -> None:
    index = Index("https://reader:s3cret@packages.example/simple")
    assert (index.name, index.secrets, index.allowed) == (
        "https://packages.example/simple",
        ("s3cret",),
        {"packages.example"},
    )


def test_a_token_that_stands_where_a_name_would_is_a_secret_too() -> None:
    assert Index("https://t0ken@packages.example/simple").secrets == ("t0ken",)
    assert set(Index("https://me:p%40ss@packages.example/simple").secrets) == {"p%40ss", "p@ss"}


def _verdict(program, machine: str, call: str, *arguments: int) -> int:
    """What the kernel would answer: the filter, run by hand."""
    numbers = {**confine._MORE, **syscalls.NUMBERS}[call]
    memory = {0: numbers[syscalls.ARCHITECTURES[machine]], 4: syscalls.AUDIT_ARCH[machine]}
    memory |= {16 + 8 * place: value for place, value in enumerate(arguments)}
    held, place = 0, 0
    while True:
        code, yes, no, constant = program[place]
        if code == 0x06:
            return constant
        if code == 0x20:
            held = memory.get(constant, 0)
        elif code == 0x54:
            held &= constant
        else:
            true = {0x15: held == constant, 0x35: held >= constant, 0x45: bool(held & constant)}[code]
            place += yes if true else no
        place += 1


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_lets_an_installer_work_and_nothing_else(machine: str) -> None:
    program, allowed = confine.program(machine, pid=77), 0x7FFF0000
    for call, *arguments in (
        ("execve",),
        ("tgkill", 77, 77, 6),
        ("prlimit64", 0),
        ("socket", 2, 1, 6),
        ("socket", 10, 0x80001, 0),
        ("clone", 0x50F00),
        ("mkdirat",),
        ("renameat2",),
    ):
        assert _verdict(program, machine, call, *arguments) == allowed, call
    for call, *arguments in (
        ("socket", 2, 2, 0), ("socket", 1, 1, 0), ("socket", 2, 1, 262), ("socket", 16, 3, 0), ("clone", 0x10000000), ("clone3",), ("kill",),
        ("bind",), ("unshare",), ("mount",), ("ptrace",), ("bpf",), ("io_uring_setup",), ("memfd_create",), ("prctl", 22), ("fcntl", 0, 8),
        ("ioctl", 0, 0x5412), ("setxattr",), ("keyctl",), ("process_vm_readv",), ("tgkill", 78, 78, 6), ("prlimit64", 78),
    ):  # fmt: skip
        assert _verdict(program, machine, call, *arguments) != allowed, (call, arguments)


_PROBE = """
import os, socket, subprocess, sys
def tries(name, call):
    try:
        call()
    except OSError:
        return
    print(name)
tries("write", lambda: open(sys.argv[2] + "/leak", "w"))
tries("read", lambda: open("/etc/passwd").read())
tries("another port", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 2))
tries("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
tries("unix", lambda: socket.socket(socket.AF_UNIX))
tries("mptcp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
tries("listen", lambda: socket.create_server(("127.0.0.1", 0)))
tries("shell", lambda: subprocess.run(["/bin/sh", "-c", "true"]))
tries("own program", lambda: (open("run", "w").write("#!/bin/sh\\n"), os.chmod("run", 0o755), subprocess.run(["./run"])))
tries("pipe", lambda: os.mkfifo("fifo"))
tries("signal", lambda: os.kill(os.getppid(), 0))
door = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
door.sendall(b"CONNECT packages.elsewhere.example:443 HTTP/1.1\\r\\n\\r\\n")
print(door.recv(200).split()[1].decode())
"""


def test_an_installer_can_do_nothing_but_its_work(tmp_path) -> None:
    import os
    import socket
    import subprocess
    import sysconfig

    if not confine.holds_ports():
        pytest.skip("this kernel's Landlock knows no ports (Linux 6.7 does)")
    cell_folder, elsewhere = tmp_path / "cell", tmp_path / "elsewhere"
    cell_folder.mkdir()
    elsewhere.mkdir()
    python = os.path.realpath(sys.executable)
    readable = (sysconfig.get_path("stdlib"), os.path.join(sys.base_prefix, "lib"))
    with gate.Gate(Index("http://127.0.0.1:1/simple")) as door, socket.create_server(("127.0.0.1", 0)) as other:
        words = (python, "-I", "-c", _PROBE, str(door.port), str(elsewhere), str(other.getsockname()[1]))
        cell = confine.Cell(
            words, str(cell_folder), readable, (python, *confine.loaders()), {}, door.port, os.getpid(), 1 << 20, 30
        )
        done = subprocess.run(
            [sys.executable, "-m", "mlops.runtime.environments.confine"],
            input=cell.words(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout.split("\n")) == (0, ["403", ""]), done.stderr
    assert door.refused == ["packages.elsewhere.example:443"]
