"""An installer, locked in before it starts: it writes into one folder, reads the system and itself, and reaches one port.

``python -m mlops.runtime.environments.confine '<json>'`` puts itself under own user (as root), rlimits, Landlock and seccomp, and then
becomes the installer (execve): a filter survives that, so the call cannot be taken from it, but Landlock lets it start no file except the
installer, Python (uv asks it for its version) and the system's loader. Nothing of what is installed is ever started.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any

from mlops.runtime import landlock, sandbox, seccomp, syscalls

USER = sandbox.FIRST_UID - 1  # beside the runners'
_MEMORY_BYTES, _FILES, _PROCESSES = 4 << 30, 1024, 256
_EXECUTE, _NET_CONNECT, _RULE_PORT = 1 << 0, 1 << 1, 2
_ALL_WRITES = (
    0b0111_1111_1111_0010  # ABI 1 to 3: write, remove, make, refer, truncate; and no device, socket or pipe (below)
)
_NO_NODES = ~((1 << 6) | (1 << 9) | (1 << 10) | (1 << 11))  # MAKE_CHAR, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/fs/cgroup", "/sys/devices/system/cpu", "/etc/os-release", "/etc/lsb-release", "/etc/debian_version", "/dev/random", "/dev/urandom")  # fmt: skip
# What writing a tree needs beyond what a runner may: (x86-64, aarch64). No mounts, no namespaces, no tracing, no io_uring, no memfd.
_MORE: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "ftruncate": (77, 46), "fallocate": (285, 47), "flock": (73, 32),
    "fsync": (74, 82), "fdatasync": (75, 83), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utimensat": (280, 88), "copy_file_range": (326, 285), "sendfile": (40, 71), "connect": (42, 203), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "setsockopt": (54, 208), "socketpair": (53, 199), "epoll_create": (213, None), "eventfd": (284, None),
    "chdir": (80, 49), "fchdir": (81, 50), "pidfd_open": (434, 434), "prlimit64": (302, 261), "tgkill": (234, 131), "creat": (85, None),
    "sync_file_range": (277, 84), "mmap": (9, 222),  "getdents": (78, None), "sendto": (44, 206),
    "sched_setaffinity": (203, 122), "ioctl": (16, 29),
}  # fmt: skip
_CLONE_NEW = 0x7E02_0000  # every namespace
_LOAD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _REFUSE, _MISSING = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


@dataclass(frozen=True)
class Cell:
    """``command`` runs in ``folder``, the only place it may write. ``port`` 0: no network at all."""

    command: tuple[str, ...]
    folder: str
    readable: tuple[str, ...]
    executable: tuple[str, ...]
    environment: dict[str, str]
    port: int
    parent: int
    file_bytes: int
    seconds: int
    uid: int | None = None

    def words(self) -> str:
        return json.dumps(asdict(self))


def user_for(paths: tuple[str, ...]) -> int | None:
    """A user of its own where we may become one and it could read what it needs; else None: ours, without capabilities."""
    if os.geteuid() != 0 or sandbox.unreadable_for_others(paths) is not None or not sandbox.uid_is_mapped(USER):
        return None
    return USER


def holds_ports() -> bool:
    """Whether this kernel can keep a process from every port but one (Linux 6.7)."""
    return landlock.abi() >= 4


def enter(cell: Cell) -> None:
    """Lock this process in for good. Raises SandboxError, OSError."""
    os.umask(0o022)
    _limit(cell)
    without = frozenset({"descriptors", "rlimits", "landlock", "seccomp"})
    sandbox.enter(sandbox.Policy((), 0, uid=cell.uid, without=without), cell.parent)
    _wall(cell)
    seccomp.install(program())


def _limit(cell: Cell) -> None:
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: cell.file_bytes,
        resource.RLIMIT_CPU: cell.seconds * 4,
        resource.RLIMIT_DATA: _MEMORY_BYTES,
        resource.RLIMIT_NOFILE: _FILES,
    }
    if cell.uid is not None:
        limits[resource.RLIMIT_NPROC] = _PROCESSES
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


# -- Landlock -----------------------------------------------------------------------------------------------------------
class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _PortRule(ctypes.Structure):
    _fields_ = (("access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def _wall(cell: Cell) -> None:
    version = landlock.abi()
    if version < 1:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset, number = syscalls.call("landlock_create_ruleset", _Ruleset(handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0), size, 0)  # fmt: skip
    if ruleset < 0:
        raise OSError(number, "landlock_create_ruleset")
    read = landlock.READ_FILE | landlock.READ_DIR
    for path in (*_SYSTEM, *cell.readable):
        _allow(ruleset, path, read)
    for path in cell.executable:
        _allow(ruleset, path, read | _EXECUTE)
    _allow(ruleset, "/dev/null", read | 0b10)
    _allow(ruleset, cell.folder, (_ALL_WRITES & _NO_NODES | read) & handled)
    if version >= 4 and cell.port:
        _add(ruleset, _RULE_PORT, _PortRule(_NET_CONNECT, cell.port))
    result, number = syscalls.call("landlock_restrict_self", ruleset, 0)
    if result != 0:
        raise OSError(number, "landlock_restrict_self")
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            access &= _EXECUTE | 0b10 | landlock.READ_FILE
        _add(ruleset, 1, _PathRule(access, opened))
    finally:
        os.close(opened)


def _add(ruleset: int, kind: int, rule: ctypes.Structure) -> None:
    result, number = syscalls.call("landlock_add_rule", ruleset, kind, rule, 0)
    if result != 0:
        raise OSError(number, f"landlock_add_rule: {os.strerror(number)}")


# -- seccomp ------------------------------------------------------------------------------------------------------------
def program(machine: str | None = None, pid: int | None = None) -> list[seccomp.Instruction]:
    """The filter of the installer ``pid`` (this process, which becomes it): everything that is not named is refused."""
    machine = machine or syscalls.machine()
    column = syscalls.ARCHITECTURES[machine]
    code: list[seccomp.Instruction] = [
        (_LOAD, 0, 0, 4), (_JEQ, 1, 0, syscalls.AUDIT_ARCH[machine]), (_RET, 0, 0, _KILL), (_LOAD, 0, 0, 0),
    ]  # fmt: skip
    if machine == "x86_64":
        code += [(_JGE, 0, 1, 0x40000000), (_RET, 0, 0, _KILL)]
    for name, body in _judged(pid or os.getpid()).items():
        number = {**_MORE, **syscalls.NUMBERS}[name][column]
        if number is not None:
            code += [(_JEQ, 0, len(body), number), *body]
    plain = [_MORE.get(name) or syscalls.NUMBERS[name] for name in dict.fromkeys((*seccomp.PLAIN, *_MORE))]
    for numbers in plain:
        if (number := numbers[column]) is not None:
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ALLOW)]
    return [*code, (_RET, 0, 0, _REFUSE)]


def _judged(pid: int) -> dict[str, list[seccomp.Instruction]]:
    """Calls that depend on their arguments: TCP sockets only, no namespaces, no terminal tricks, nothing to other processes of its user."""
    return {
        "socket": [
            (_LOAD, 0, 0, 16), (_JEQ, 2, 0, 2), (_JEQ, 1, 0, 10), (_RET, 0, 0, _REFUSE),  # AF_INET, AF_INET6
            (_LOAD, 0, 0, 24), (_AND, 0, 0, 0xF), (_JEQ, 1, 0, 1), (_RET, 0, 0, _REFUSE),  # SOCK_STREAM
            (_LOAD, 0, 0, 32), (_JEQ, 2, 0, 0), (_JEQ, 1, 0, 6), (_RET, 0, 0, _REFUSE), (_RET, 0, 0, _ALLOW),  # not MPTCP
        ],
        "clone": [(_LOAD, 0, 0, 16), (_JSET, 0, 1, _CLONE_NEW), (_RET, 0, 0, _REFUSE), (_RET, 0, 0, _ALLOW)],
        "clone3": [(_RET, 0, 0, _MISSING)],
        "fcntl": _one_of(24, (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)),
        "ioctl": _one_of(24, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x40049409)),  # the last: FICLONE
        "tgkill": _one_of(16, (pid,)),
        "prlimit64": _one_of(16, (0, pid)),
        "prctl": _one_of(16, (1, 2, 3, 15, 16, 21, 23, 38, 39, 0x53564D41)),
    }  # fmt: skip


def _one_of(offset: int, allowed: tuple[int, ...]) -> list[seccomp.Instruction]:
    code: list[seccomp.Instruction] = [(_LOAD, 0, 0, offset)]
    for value in allowed:
        code += [(_JEQ, 0, 1, value), (_RET, 0, 0, _ALLOW)]
    return [*code, (_RET, 0, 0, _REFUSE)]


def loaders() -> tuple[str, ...]:
    """The dynamic loaders that a program's start goes through, where they really lie."""
    names = {"x86_64": ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"), "aarch64": ("/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1")}  # fmt: skip
    return tuple(os.path.realpath(path) for path in names.get(platform.machine(), ()) if os.path.exists(path))


def main() -> None:
    told: dict[str, Any] = json.loads(sys.stdin.read())
    lists: dict[str, Any] = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
    cell = Cell(**{**told, **lists})
    try:
        enter(cell)
        os.chdir(cell.folder)
        os.execve(cell.command[0], list(cell.command), cell.environment)  # noqa: S606  no shell
    except (OSError, ValueError, sandbox.SandboxError) as error:
        sys.exit(f"The installer could not be locked in: {error}")


if __name__ == "__main__":
    main()
