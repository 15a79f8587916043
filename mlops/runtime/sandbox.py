"""Locking a forked runner in: descriptors, identity, limits, Landlock, seccomp; then proof that forbidden calls fail.

The layers, in order (`LAYERS`). A test may leave one out (``Policy.without``) to show that its absence is noticed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlops.runtime import landlock, mounts, seccomp, syscalls
from mlops.runtime.limits import NICENESS, OPEN_FILES, THREADS

LAYERS = ("descriptors", "rlimits", "mounts", "identity", "no_new_privs", "death_signal", "landlock", "seccomp")
FIRST_UID, UIDS = 61184, 4000  # the range that service managers use for passing users
SET_UIDS = range(65184, 65520)  # the rest of it, for the zygotes of dependency sets: no two at a time have the same
SET_THREADS = 512  # processes and threads of one set's user: its zygote and all its runners
FIRST_KEPT, KEPT = 3, 2  # status socket, listening socket
SYSTEM_PATHS = (
    "/usr", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo",
    "/sys/devices/system/cpu", "/dev/zero", "/dev/random", "/dev/urandom",
    # How much processor a container has: joblib, and through it lightgbm, ask, and take a file that is there and shut for an error.
    "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
)  # fmt: skip
GPU_PATHS = (
    "/proc/driver/nvidia",
    "/proc/devices",
    "/proc/self",
    "/sys/bus/pci/devices",
    "/sys/devices",
    "/etc/nvidia",
)
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/nvidia-caps")
_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 23, 24, 38, 47
_THREAD_STACK_BYTES = 8 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_ADDRESS_SLACK_BYTES = 4 << 30  # address space is not memory: libraries map and reserve far more than they touch


class SandboxError(Exception):
    """A layer could not be put in place; ``layer`` says which."""

    def __init__(self, layer: str, detail: str) -> None:
        super().__init__(f"{layer}: {detail}")
        self.layer = layer
        self.detail = detail


@dataclass(frozen=True)
class Policy:
    """How to lock one runner in. ``uid`` None keeps the user (and drops every capability)."""

    readable: tuple[str, ...]
    memory_bytes: int
    uid: int | None = None
    gpu: bool = False
    without: frozenset[str] = field(default_factory=frozenset)
    forks: bool = False  # the zygote of a dependency set: what it forks locks itself in once more
    within: bool = False  # a runner forked by such a zygote
    pages: tuple[int, ...] = ()  # of that zygote, as in /proc/self/statm, which its runners cannot read
    hidden: tuple[str, ...] = ()  # inside a launcher: folders in which this runner finds only its own files
    folder: str = ""  # where the process stands when it is locked in, for code that opens files by relative names
    writable: str = ""  # a training's own folder: it may make plain files and folders there, and nowhere else
    file_bytes: int = 0  # the largest file it may write there
    cpu_s: int = 0  # processor seconds it may use; 0: no bound but the parent's deadline


def library_paths() -> tuple[str, ...]:
    """Folders and files that Python and the ML libraries may be read from; existing ones, links resolved."""
    roots = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots += [os.path.join(sys.base_prefix, "lib"), str(Path(__file__).resolve().parent)]
    found = [os.path.realpath(path) for path in (*SYSTEM_PATHS, *roots) if os.path.exists(path)]
    return tuple(dict.fromkeys(path for path in found if path != "/"))


def unreadable_for_others(paths: tuple[str, ...], bound: tuple[str, ...] = ()) -> str | None:
    """The first path that a stranger's uid could not reach or read, for example below a home folder of mode 0700.

    What lies above a folder of ``bound`` does not count: a launcher has made its own way there.
    """
    for path in paths:
        real = os.path.realpath(path)
        try:
            if not os.stat(real).st_mode & 0o004:
                return real
            above = [str(folder) for folder in Path(real).parents]
            if (root := next((each for each in bound if f"{real}/".startswith(f"{each}/")), None)) is not None:
                above = [folder for folder in above if f"{folder}/".startswith(f"{root}/")]
            for folder in above:
                if not os.stat(folder).st_mode & 0o001:
                    return folder
        except OSError:
            return real
    return None


def uid_is_mapped(uid: int) -> bool:
    """Whether this user namespace has ``uid`` (containers often map only some)."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    ranges = [tuple(int(word) for word in line.split()) for line in lines]
    return any(first <= uid < first + count for first, _, count in ranges)


def enter(policy: Policy, parent_pid: int) -> None:
    """Lock this freshly forked process in. ``parent_pid`` is the zygote: its death is ours. Raises SandboxError."""
    try:
        syscalls.machine()
    except OSError as error:
        raise SandboxError("seccomp", str(error)) from error
    os.setsid()
    os.nice(0 if policy.within else NICENESS)
    _write_quietly("/proc/self/oom_score_adj", "1000")
    steps: dict[str, Callable[[], None]] = {
        "descriptors": _close_descriptors,
        "rlimits": lambda: _set_limits(policy),
        "mounts": lambda: mounts.hide(_hidden(policy), (*_readable(policy), *_writable(policy))),
        "identity": lambda: become(policy.uid),
        "no_new_privs": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "death_signal": lambda: _die_with(parent_pid),
        "landlock": lambda: landlock.restrict(_readable(policy), _devices(policy), _writable(policy)),
        "seccomp": lambda: seccomp.install(
            seccomp.assemble(os.getpid(), gpu=policy.gpu, forks=policy.forks, writes=bool(policy.writable))
        ),
    }
    for layer in LAYERS:
        if layer == "seccomp":  # with the mounts of its own, and while it still can
            _stand_in(policy.folder)
        if layer in policy.without or layer not in layers(policy):
            continue
        try:
            steps[layer]()
        except (OSError, ValueError) as error:
            raise SandboxError(layer, str(error)) from error


def _stand_in(folder: str) -> None:
    if folder:
        with contextlib.suppress(OSError):
            os.chdir(folder)


def layers(policy: Policy) -> tuple[str, ...]:
    """The layers that ``policy`` is made of: mounts inside a launcher only, and there Landlock where the kernel has it."""
    absent = set() if policy.hidden else {"mounts"}
    if policy.hidden and not policy.gpu and not landlock.abi():
        absent.add(
            "landlock"
        )  # nothing but the libraries and the runner's own files is there to be read, and nothing but a training's own folder to be written
    return tuple(layer for layer in LAYERS if layer not in absent)


def check(model_path: str) -> None:
    """Four calls that must fail, made before the model is opened. Raises SandboxError naming the layer that leaks."""
    if syscalls.call("socket", 1, 1, 0)[0] >= 0:
        raise SandboxError("seccomp", "a socket could be made")
    if _opens("/etc/passwd"):
        raise SandboxError("landlock", "/etc/passwd could be opened")
    if _forks():
        raise SandboxError("seccomp", "a process could be forked")
    try:
        os.chmod(model_path, 0o444)
    except OSError:
        return
    raise SandboxError("seccomp", "a file's mode could be changed")


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _forks() -> bool:
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _readable(policy: Policy) -> tuple[str, ...]:
    return (*library_paths(), *policy.readable, *(GPU_PATHS if policy.gpu else ()))


def _writable(policy: Policy) -> tuple[str, ...]:
    return (policy.writable,) if policy.writable else ()


def _hidden(policy: Policy) -> tuple[str, ...]:
    # A GPU's driver looks into /proc; there Landlock is what keeps the rest of it shut.
    return tuple(path for path in policy.hidden if path != "/proc" or not policy.gpu)


def _devices(policy: Policy) -> tuple[str, ...]:
    if not policy.gpu:
        return ("/dev/null",)
    return ("/dev/null", *GPU_DEVICES, *(f"/dev/nvidia{index}" for index in range(16)))


def _close_descriptors() -> None:
    os.closerange(FIRST_KEPT + KEPT, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _set_limits(policy: Policy) -> None:
    pages = policy.pages or [int(word) for word in Path("/proc/self/statm").read_text(encoding="ascii").split()]
    page_bytes = resource.getpagesize()
    # The zygote's own pages are shared and not the model's doing: the quota starts above them.
    limits = {
        resource.RLIMIT_DATA: pages[5] * page_bytes + policy.memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: policy.file_bytes if policy.writable else 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: _THREAD_STACK_BYTES,
    }
    if not policy.gpu:  # CUDA reserves address space by the terabyte
        limits[resource.RLIMIT_AS] = pages[0] * page_bytes + policy.memory_bytes + _ADDRESS_SLACK_BYTES
    if policy.cpu_s:
        limits[resource.RLIMIT_CPU] = policy.cpu_s
    if policy.uid is not None:  # counted per user: only a uid of its own can have a small one
        limits[resource.RLIMIT_NPROC] = SET_THREADS if policy.forks else THREADS
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def become(uid: int | None) -> None:
    """Drop to ``uid`` and no group, or stay who we are without any capability."""
    if os.geteuid() == 0:
        for capability in range(64):
            if _LIBC.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
                _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _LIBC.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    empty = (ctypes.c_uint32 * 6)()
    result, number = syscalls.call("capset", header, empty)
    if result != 0:
        raise OSError(number, f"capset: {os.strerror(number)}")


def _die_with(parent_pid: int) -> None:
    # After the uid: changing it clears the signal.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def _write_quietly(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="ascii")
    except OSError:
        return
