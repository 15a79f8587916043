"""The system call filter on both architectures, in an interpreter of its own; and that every number in the table is the kernel's."""

from __future__ import annotations

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from mlops.runtime import landlock, probes, raw_probes, sandbox, seccomp, syscalls
from tests.bpf import PID, verdict

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x80000000


MACHINES = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


@MACHINES
@pytest.mark.parametrize(
    ("name", "args", "wanted"),
    [
        ("read", (), ALLOW),
        ("openat", (), ALLOW),
        ("accept4", (), ALLOW),
        ("clone", (0x3D0F00,), ALLOW),  # what pthread_create asks for
        ("clone", (17,), EPERM),  # fork
        ("clone", (0x4111,), EPERM),  # vfork
        ("clone3", (), ENOSYS),
        ("mmap", (0, 4096, 3, 0x22), ALLOW),
        ("mmap", (0, 4096, 3, 0x21), EPERM),
        ("mmap", (0, 4096, 1, 0x01), ALLOW),
        ("mmap", (0, 4096, 3, 0x23), EPERM),
        ("mmap", (0, 4096, 3, 0x122), EPERM),
        ("mmap", (0, 4096, 3, 0x40022), EPERM),
        ("kill", (PID, 15), ALLOW),
        ("kill", (1, 15), EPERM),
        ("kill", (-1, 9), EPERM),
        ("tgkill", (PID, 5, 6), ALLOW),
        ("tgkill", (1, 1, 9), EPERM),
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), EPERM),
        ("fcntl", (3, 3), ALLOW),
        ("fcntl", (3, 8), EPERM),
        ("fcntl", (3, 10), EPERM),
        ("ioctl", (3, 0x5421), ALLOW),
        ("ioctl", (3, 0x5412), EPERM),
        ("ioctl", (3, 0x8901), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (1, 0), EPERM),  # the death signal may not be taken back
        ("prctl", (22,), EPERM),
        ("sched_setaffinity", (0,), ALLOW),
        ("sched_setaffinity", (1,), EPERM),
        ("sendto", (3, 0x1000, 10, 0, 0, 0), ALLOW),
        ("sendto", (3, 0x1000, 10, 0, 0x7FFF00000000, 16), EPERM),
    ],
)
def test_the_filter_decides_by_arguments(machine: str, name: str, args: tuple[int, ...], wanted: int) -> None:
    assert verdict(machine, name, *args) == wanted


@MACHINES
def test_everything_that_is_not_named_is_refused(machine: str) -> None:
    allowed = {
        *seccomp.PLAIN,
        "clone",
        "clone3",
        "mmap",
        "kill",
        "tgkill",
        "prlimit64",
        "fcntl",
        "ioctl",
        "prctl",
        "sched_setaffinity",
        "sendto",
    }
    others = [
        name
        for name, numbers in syscalls.NUMBERS.items()
        if name not in allowed and numbers[syscalls.ARCHITECTURES[machine]] is not None
    ]
    assert {"socket", "connect", "bind", "execve", "ptrace", "fchmodat", "memfd_create", "io_uring_setup"} <= set(
        others
    )
    assert {verdict(machine, name) for name in others} == {EPERM}
    assert verdict(machine, 999) == EPERM


def test_another_architecture_and_x32_are_killed() -> None:
    assert verdict("x86_64", "read", arch=0x40000003) == KILL
    assert verdict("x86_64", 0x40000000 | 1) == KILL
    assert verdict("aarch64", "read", arch=syscalls.AUDIT_ARCH["x86_64"]) == KILL


# -- every number, every architecture ---------------------------------------------------------------------------------

RULED = (
    "clone",
    "clone3",
    "mmap",
    "fcntl",
    "ioctl",
    "prctl",
    "kill",
    "tgkill",
    "prlimit64",
    "sched_setaffinity",
    "sendto",
)
HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],  # aarch64 has taken the generic table as it is
}
OTHER_NAMES = {"fstatat": "newfstatat"}


@MACHINES
@pytest.mark.parametrize("gpu", [False, True])
def test_of_all_numbers_only_the_named_calls_get_through(machine: str, gpu: bool) -> None:
    """Not by the table of names: a call that we do not know, or that a kernel to come brings, is refused like any other."""
    column = syscalls.ARCHITECTURES[machine]
    plain = {syscalls.NUMBERS[name][column] for name in (*seccomp.PLAIN, *(seccomp._GPU_PLAIN if gpu else ()))} - {None}
    ruled = {syscalls.NUMBERS[name][column] for name in RULED} - {None}
    for number in range(1024):
        wanted = {ALLOW} if number in plain else {ALLOW, EPERM, ENOSYS} if number in ruled else {EPERM}
        assert verdict(machine, number, gpu=gpu) in wanted, number


@MACHINES
def test_numbers_are_the_kernels_own(machine: str) -> None:
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip(f"the kernel's header {HEADERS[machine][0]} is not installed (Debian: linux-libc-dev)")
    found = {}
    for name, number in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE):
        found.setdefault(OTHER_NAMES.get(name, name) if machine == "aarch64" else name, int(number))
    found.pop("syscalls", None)  # how many there are
    newest = max(found.values())
    checked = 0
    for name, numbers in syscalls.NUMBERS.items():
        ours = numbers[syscalls.ARCHITECTURES[machine]]
        if ours is not None and ours > newest:
            continue  # newer than the header
        assert found.get(name) == ours, name
        checked += 1
    assert checked > 250


@MACHINES
@pytest.mark.parametrize(("name", "call", "args"), raw_probes.ROWS)
def test_what_the_proof_tries_is_refused_on_both_architectures(
    machine: str, name: str, call: str, args: tuple[object, ...]
) -> None:
    """The proof tries this machine's calls; here its rows are put to the other architecture's filter too."""
    if syscalls.NUMBERS[call][syscalls.ARCHITECTURES[machine]] is None:
        return  # this architecture never had it
    words = {"pid": PID + 1, "fd": 3}
    numbers = [
        0x1000
        if not isinstance(arg, int | str | None)
        else words.get(str(arg), 0x1000)
        if isinstance(arg, str)
        else arg or 0
        for arg in args
    ]
    assert verdict(machine, call, *(number & (1 << 64) - 1 for number in numbers)) in (EPERM, ENOSYS)


def test_what_the_safety_design_forbids_has_a_probe() -> None:
    """Each call that the promises name, by the call's own name."""
    promised = [
        "socket",
        "connect",
        "bind",
        "fork",
        "vfork",
        "execve",
        "execveat",
        "clone",
        "clone3",
        "chmod",
        "fchmodat",
        "chown",
        "fchownat",
        "setxattr",
        "utimensat",
        "utime",
        "truncate",
        "kill",
        "tgkill",
        "prlimit64",
        "fcntl",
        "ioctl",
        "memfd_create",
        "shmget",
        "io_uring_setup",
        "userfaultfd",
        "keyctl",
        "bpf",
        "unshare",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_send_signal",
        "setns",
        "mount",
        "rename",
        "linkat",
        "symlinkat",
        "mkdirat",
        "open_by_handle_at",
        "name_to_handle_at",
        "perf_event_open",
        "personality",
        "sched_setaffinity",
        "setpriority",
        "ioprio_set",
        "splice",
        "vmsplice",
        "tee",
        "inotify_init1",
        "fanotify_init",
        "mq_open",
        "add_key",
        "swapon",
    ]
    tried = {call for _, call, _ in raw_probes.ROWS} | {"clone", "vfork"}  # (vfork is tried as the clone that it is)
    source = Path(probes.__file__).read_text()
    for name in promised:
        assert name in tried or f'"{name}"' in source or name == "fork", name
    names = {probe.name for probe in probes.PROBES}
    assert len(names) == len(probes.PROBES)
    assert {
        "mptcp_socket",
        "udp_socket",
        "unix_socket",
        "shared_memory",
        "signal_owner",
        "signal_number",
        "socket_owner",
        "socket_group",
    } <= names
    assert {"type_into_terminal", "fork", "read_own_memory_file", "read_victim_environment", "learn_names"} <= names


@pytest.mark.parametrize(("machine", "bits"), [("riscv64", 8), ("armv8l", 4), ("x86_64", 4), ("", 8)])
def test_another_architecture_is_refused_with_a_sentence(
    machine: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(struct, "calcsize", lambda text: bits)
    with pytest.raises(OSError, match="models run on x86-64 and aarch64"):
        syscalls.machine()
    with pytest.raises(sandbox.SandboxError, match="no system call table") as refused:
        sandbox.enter(sandbox.Policy((), 1 << 20), 1)
    assert refused.value.layer in probes.FIXES
    assert landlock.abi() == 0  # the status is still told


@pytest.mark.parametrize("name", ["amd64", "arm64", "AARCH64"])
def test_other_names_of_the_two_are_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    assert syscalls.machine() in syscalls.ARCHITECTURES
