"""``python -m tests.become UID PROGRAM ...``: run PROGRAM as another user, for whom this interpreter and this project can be read.

UID 0 stays root. What lies in folders that only root may enter (an interpreter in root's home) is shown to everybody, in a mount namespace
of this process's own: no file's mode is changed. Needs root with CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlops.runtime import mounts, sandbox

PROJECT = Path(__file__).resolve().parents[1]


def needed() -> tuple[str, ...]:
    """What a Slipway process reads of its own."""
    own = (sys.base_prefix, sys.prefix, str(PROJECT))
    return tuple(dict.fromkeys(os.path.realpath(path) for path in (*own, *sandbox.library_paths())))


def private() -> tuple[str, ...]:
    """The outermost folders above those that strangers may not enter."""
    found: list[str] = []
    for path in needed():
        for folder in reversed(Path(path).parents):
            if not folder.stat().st_mode & 0o001:
                found.append(str(folder))
                break
    return tuple(dict.fromkeys(found))


def why_not() -> str:
    """Why it cannot be done here, and what would mend it; empty when it can."""
    if os.geteuid() != 0:
        return "the tests run as a plain user already: run them as root to see both"
    unreadable = [path for path in needed() if not os.stat(path).st_mode & 0o004]
    if unreadable:
        return f"other users may not read {unreadable[0]}: install Python and the project where they may (chmod o+rX)"
    pid = os.fork()
    if pid == 0:
        try:
            mounts.hide(private(), needed())
        except OSError as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        return "no mount namespace can be made here: give the tests CAP_SYS_ADMIN, or run them as a plain user"
    return ""


def main(argv: list[str]) -> None:
    """Never returns."""
    user, program = int(argv[0]), argv[1:]
    mounts.hide(private(), needed())
    os.chdir(PROJECT)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    os.execv(program[0], program)  # noqa: S606  the tests' own words


if __name__ == "__main__":
    main(sys.argv[1:])
