"""A runner's own mount namespace: in the folders of all tenants there is nothing but the runner's own files.

Used inside bubblewrap (``launchers``), whose tree holds only the libraries and those folders. Without it a runner would learn the names of
other tenants' files there, and, on a kernel without Landlock, read them. Root makes the namespace with CAP_SYS_ADMIN; a plain user inside a
user namespace of its own. Either way every capability is dropped right after (sandbox, layer "identity").
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mlops.runtime import syscalls

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _REC, _PRIVATE = 1, 2, 4, 8, 32, 1 << 14, 1 << 18
_HERE, _CLONE, _RECURSIVE, _FROM_DESCRIPTOR = -100, 1, 0x8000, 4
_ROOM = b"mode=755,size=64k,nr_inodes=10k"  # folders and empty files to mount on; ours alone, and read-only once they are made
_SYS_ADMIN = 21


def hide(folders: Iterable[str], kept: Iterable[str]) -> None:
    """Leave nothing in ``folders`` but ``kept`` (files, or folders with all below), for this process alone. Raises OSError."""
    _own_namespace()
    roots = _outermost(folders)
    trees = [(path, _tree(path)) for path in dict.fromkeys(kept) if _inside(path, roots)]
    for root in roots:
        _mount(b"tmpfs", root, b"tmpfs", _NOSUID | _NODEV | _NOEXEC, _ROOM)
    for path, tree in trees:
        _put(tree, path)
    for root in roots:
        _mount(None, root, None, _REMOUNT | _RDONLY | _NOSUID | _NODEV | _NOEXEC, _ROOM)


def _own_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    privileged = _has_sys_admin()
    result, number = syscalls.call("unshare", _NEWNS if privileged else _NEWNS | _NEWUSER)
    if result != 0:
        raise OSError(number, f"unshare: {os.strerror(number)}")
    if not privileged:
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _mount(None, "/", None, _REC | _PRIVATE, None)


def _has_sys_admin() -> bool:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    return syscalls.call("capget", header, data)[0] == 0 and bool(data[0] >> _SYS_ADMIN & 1)


def _outermost(folders: Iterable[str]) -> list[str]:
    """Those that exist and lie in no other of them."""
    found: list[str] = []
    for folder in sorted(set(folders), key=len):
        if os.path.isdir(folder) and not _inside(folder, found):
            found.append(folder)
    return found


def _inside(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def _tree(path: str) -> int:
    descriptor, number = syscalls.call("open_tree", _HERE, os.fsencode(path), _CLONE | _RECURSIVE | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(number, f"open_tree {path}: {os.strerror(number)}")
    return descriptor


def _put(tree: int, path: str) -> None:
    try:
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.makedirs(path, mode=0o755, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
        result, number = syscalls.call("move_mount", tree, b"", _HERE, os.fsencode(path), _FROM_DESCRIPTOR)
        if result != 0:
            raise OSError(number, f"move_mount {path}: {os.strerror(number)}")
    finally:
        os.close(tree)


def _mount(source: bytes | None, target: str, kind: bytes | None, flags: int, data: bytes | None) -> None:
    result, number = syscalls.call("mount", source, os.fsencode(target), kind, flags, data)
    if result != 0:
        raise OSError(number, f"mount {target}: {os.strerror(number)}")
