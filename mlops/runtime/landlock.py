"""Landlock by raw system calls: after ``restrict`` this process reads the given paths and nothing else, and writes nowhere but where it is told.

Handles whatever the kernel knows (ABI 1 to 7): files, TCP bind and connect, abstract sockets and signals to outside.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable

from mlops.runtime import syscalls

_VERSION_FLAG, _RULE_PATH = 1, 1
_WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
_IOCTL_DEV = 1 << 15
# Write, remove folders and files, make folders and plain files, move within, truncate: no links, devices, sockets or pipes.
_WRITES = _WRITE_FILE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
# Highest access right a kernel of each ABI handles: 13 rights, + REFER, + TRUNCATE, (net), + IOCTL_DEV.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_NET_BIND_CONNECT = 0b11
_SCOPE_ABSTRACT_AND_SIGNAL = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """The kernel's Landlock ABI; 0 when it has none (or it is switched off, or the machine is of an unknown kind)."""
    try:
        result, _ = syscalls.call("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError:
        return 0
    return max(result, 0)


def restrict(readable: Iterable[str], devices: Iterable[str] = (), writable: Iterable[str] = ()) -> None:
    """Only ``readable`` (files, or folders with all below) may be read; only ``devices`` read, written and asked by ioctl; only below the
    folders of ``writable`` may plain files and folders be made, changed and removed.

    Paths that do not exist are left out. Needs no_new_privs or CAP_SYS_ADMIN. Raises OSError, ENOSYS without Landlock.
    """
    version = abi()
    if version < 1:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    handled = _FILE_RIGHTS[min(version, 5)]
    ruleset = _Ruleset(
        handled, _NET_BIND_CONNECT if version >= 4 else 0, _SCOPE_ABSTRACT_AND_SIGNAL if version >= 6 else 0
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    descriptor, number = syscalls.call("landlock_create_ruleset", ruleset, size, 0)
    if descriptor < 0:
        raise OSError(number, f"landlock_create_ruleset: {os.strerror(number)}")
    try:
        for path in readable:
            _allow(descriptor, path, READ_FILE | READ_DIR)
        for path in devices:
            _allow(descriptor, path, (READ_FILE | READ_DIR | _WRITE_FILE | _IOCTL_DEV) & handled)
        for path in writable:
            _allow(descriptor, path, (READ_FILE | READ_DIR | _WRITES) & handled)
        result, number = syscalls.call("landlock_restrict_self", descriptor, 0)
        if result != 0:
            raise OSError(number, f"landlock_restrict_self: {os.strerror(number)}")
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= ~READ_DIR
        result, number = syscalls.call("landlock_add_rule", ruleset, _RULE_PATH, _PathRule(access, descriptor), 0)
        if result != 0:
            raise OSError(number, f"landlock_add_rule {path}: {os.strerror(number)}")
    finally:
        os.close(descriptor)
