"""What the template process, and so every zygote and runner, is started inside of: bubblewrap where it starts, else nothing.

Landlock and seccomp bound a runner either way. Bubblewrap adds a tree that holds only the libraries and the tenants' folders, process ids
of its own and no network device; inside it every runner gets a mount namespace of its own (``mounts``). It closes what Landlock leaves open
(names and sizes of files outside), and stands in for Landlock on kernels without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops.runtime import sandbox
from mlops.runtime.limits import SANDBOXES

_PROJECT = Path(__file__).resolve().parents[2]
_TRY_S = 30.0
_WHERE = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin"
_UNSHARED = (
    "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "slipway",
    "--die-with-parent", "--new-session",
)  # fmt: skip
# As root: what a zygote needs to give each runner a user, no privileges and mounts of its own. Runners drop all of it.
_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_KILL")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_GPU = "/dev/nvidiactl"
# Everything that a start with those words must be able to do, tried with a folder of ours as the tenants'.
_TRIAL = "import sys; sys.path.append({root!r}); from mlops.runtime import mounts; mounts.hide(('/proc', {folder!r}), ('/proc/cpuinfo',)); print('holds')"
_INSTALL = "Install bubblewrap (Debian, Ubuntu, Fedora: the package `bubblewrap`), or choose SLIPWAY_SANDBOX=auto."
_ALLOW = (
    "Run Slipway as root with CAP_SYS_ADMIN, or allow user namespaces (sysctl user.max_user_namespaces, "
    "kernel.apparmor_restrict_unprivileged_userns), or choose SLIPWAY_SANDBOX=auto."
)


@dataclass(frozen=True)
class Launcher:
    """How the template starts. ``why`` says it in words; ``problem`` and ``fix`` are set when what was demanded is not possible."""

    name: str
    why: str
    words: tuple[str, ...] = ()  # what stands before the template's own command
    hidden: tuple[str, ...] = ()  # folders in which a runner finds only its own files
    bound: tuple[str, ...] = ()  # what can be reached inside whatever the mode of the folders above it
    problem: str = ""
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "why": self.why, "problem": self.problem}


PLAIN = Launcher("landlock", "Landlock and seccomp alone")


def choose(wanted: str, folders: Sequence[str], writable: Sequence[str] = ()) -> Launcher:
    """The launcher for ``wanted`` (one of SANDBOXES). ``folders``: the tenants' files, and the proof's; they must exist.

    ``writable`` are those of them that may be written inside: each training finds only its own one there.
    """
    if wanted not in SANDBOXES:
        raise ValueError(f"{wanted!r} is none of {', '.join(SANDBOXES)}")
    if wanted == "runsc":
        return _impossible("runsc", *_why_not_runsc())
    if wanted == "landlock":
        return Launcher("landlock", "Landlock and seccomp alone, as SLIPWAY_SANDBOX=landlock says")
    if wanted == "auto" and os.path.exists(_GPU):
        return Launcher(
            "landlock", "Landlock and seccomp alone: bubblewrap is not chosen by itself on a machine with a GPU"
        )
    path = shutil.which("bwrap", path=_WHERE)
    if path is None:
        reason, fix = "bubblewrap is not installed", _INSTALL
    else:
        launcher = _bubblewrap(path, folders, writable)
        reason, fix = _tried(launcher, folders), _ALLOW
        if not reason:
            return launcher
        reason = f"bubblewrap does not start: {reason}"
    if wanted == "bwrap":
        return _impossible("bwrap", f"SLIPWAY_SANDBOX=bwrap, but {reason}.", fix)
    return Launcher("landlock", f"Landlock and seccomp alone: {reason}")


def _impossible(name: str, problem: str, fix: str) -> Launcher:
    return Launcher(name, problem, problem=problem, fix=fix)


def _why_not_runsc() -> tuple[str, str]:
    fix = "Choose SLIPWAY_SANDBOX=auto; for gVisor run the whole runner host in a container whose runtime is runsc, or in a virtual machine."
    if shutil.which("runsc", path=_WHERE) is None:
        return "SLIPWAY_SANDBOX=runsc, but gVisor's runsc is not installed.", fix
    # gVisor's kernel takes no descriptors from processes outside it, and these are how runners get their sockets.
    return "SLIPWAY_SANDBOX=runsc: runners are handed open sockets from outside, which gVisor does not allow.", fix


def _tried(launcher: Launcher, folders: Sequence[str]) -> str:
    """Start Python inside, let it do what a runner does; the reason why it cannot, or nothing."""
    code = _TRIAL.format(root=str(_PROJECT), folder=folders[0] if folders else "/tmp")  # noqa: S108
    try:
        # Our own words and our own interpreter; an empty environment.
        done = subprocess.run(  # noqa: S603
            [*launcher.words, sys.executable, "-I", "-B", "-c", code],
            env={"PATH": "/usr/bin:/bin"} | {n: os.environ[n] for n in ("LD_LIBRARY_PATH",) if n in os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRY_S,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TRY_S:g} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0 and done.stdout.strip() == "holds":
        return ""
    lines = (done.stderr.strip() or f"exit {done.returncode}").splitlines()
    return lines[-1][:300]


def _bubblewrap(path: str, folders: Sequence[str], writable: Sequence[str] = ()) -> Launcher:
    tenants = tuple(dict.fromkeys(folders))
    shown = _outermost((*_ours(), *tenants))
    words = [path, *_UNSHARED]
    if os.geteuid() == 0:
        words += ["--cap-drop", "ALL", *(word for name in _CAPABILITIES for word in ("--cap-add", name))]
    made: set[str] = set()
    for name in shown:
        words += _folders_above(name, made)
        if os.path.islink(name) and os.path.isdir(name) and not _below(name, tenants):
            words += ["--symlink", os.readlink(name), name]
            real = os.path.realpath(name)
            if not _below(real, shown):
                words += [*_folders_above(real, made), "--ro-bind", real, real]
        else:
            words += ["--bind" if name in writable else "--ro-bind", os.path.realpath(name), name]
    for name in writable:
        if name not in shown:  # it lies in another of the tenants' folders
            words += ["--bind", os.path.realpath(name), name]
    words += [*_folders_above("/proc", made), "--proc", "/proc", *_devices(made), *_folders_above("/tmp/x", made)]  # noqa: S108
    words += ["--remount-ro", "/", "--chdir", "/", "--"]
    return Launcher("bwrap", "bubblewrap outside of seccomp and Landlock", tuple(words), ("/proc", *tenants), shown)


def _ours() -> Iterable[str]:
    """What Python and the libraries consist of, by every name they may be asked for."""
    elsewhere = ("/proc", "/dev", "/sys/fs/cgroup")  # made anew inside, or not needed there
    wanted = [path for path in (*sandbox.SYSTEM_PATHS, *sandbox.library_paths()) if not path.startswith(elsewhere)]
    wanted += [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    wanted += [str(_PROJECT / "mlops" / "__init__.py"), str(_PROJECT / "mlops" / "runtime")]
    if os.path.exists(_GPU):
        wanted += [path for path in sandbox.GPU_PATHS if not path.startswith("/proc")]
    both = (name for path in wanted for name in (path, os.path.realpath(path)))
    return (path for path in dict.fromkeys(both) if os.path.exists(path) and path != "/")


def _devices(made: set[str]) -> list[str]:
    there = [*_DEVICES, *(sandbox.GPU_DEVICES if os.path.exists(_GPU) else ())]
    there += [f"/dev/nvidia{index}" for index in range(16)]
    words = _folders_above("/dev/null", made)
    for path in there:
        if os.path.exists(path):
            words += ["--dev-bind", path, path]
    return words


def _folders_above(path: str, made: set[str]) -> list[str]:
    """Make the folders above ``path`` and open them to every user: what is private about them lies outside."""
    words = []
    for folder in reversed([str(each) for each in Path(path).parents][:-1]):
        if folder not in made:
            made.add(folder)
            words += ["--perms", "0755", "--dir", folder]
    return words


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that lie in no other of them; one below a link is kept, for the link leads elsewhere."""
    found: list[str] = []
    for path in sorted(dict.fromkeys(paths), key=len):
        if not _below(path, found):
            found.append(path)
    return tuple(found)


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or (path.startswith(root.rstrip("/") + "/") and not os.path.islink(root)) for root in roots)
