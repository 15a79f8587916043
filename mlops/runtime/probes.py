"""The self-proof: from inside a locked runner, attack a dummy victim in every way the sandbox promises to stop.

``run`` is called in the probe process; it answers one result per probe. A mandatory probe that gets through means: run nothing
uploaded. Results: {"name", "layer", "mandatory", "blocked", "detail"}. ``FIXES`` says what to do about a layer.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops.runtime import raw_probes, sandbox, syscalls
from mlops.runtime.limits import OPEN_FILES

FIXES = {
    "descriptors": "Slipway's own descriptors reach the runner: report this with your Python version.",
    "rlimits": "The process may not lower its own limits: check the service manager's or container's rlimit settings.",
    "mounts": "A runner's own mount namespace could not be made: choose SLIPWAY_SANDBOX=landlock, or see what bubblewrap says in the status.",
    "identity": "The runner keeps privileges: start runnerd as a plain user, or allow CAP_SETUID, CAP_SETGID and CAP_SETPCAP.",
    "no_new_privs": "prctl(PR_SET_NO_NEW_PRIVS) has no effect: use a Linux kernel of 4.10 or newer without a filter on prctl.",
    "death_signal": "prctl(PR_SET_PDEATHSIG) has no effect: use a Linux kernel without a filter on prctl.",
    "landlock": "Use a Linux kernel of 5.13 or newer with Landlock on (`landlock` in the boot option lsm=) and a container "
    "profile that allows landlock_create_ruleset, landlock_add_rule and landlock_restrict_self; or install bubblewrap, which stands in for it.",
    "seccomp": "Use a Linux kernel with CONFIG_SECCOMP_FILTER on x86-64 or aarch64 and a container profile that allows seccomp(2).",
    "cgroup": "A runner could not be put into its control group: see the group's owner and limits, or take the right to make groups away from "
    "Slipway; it then does without.",
    "zygote": "The runner host could not start its template process: see runnerd's log.",
}

# What a refusal looks like: the filter's own errors, Landlock's, a read-only mount's. Any other error came from behind the boundary.
_REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EROFS)

Attempt = Callable[[dict[str, Any], sandbox.Policy], "str | None"]


@dataclass(frozen=True)
class Probe:
    """One attack. ``attempt`` answers None when it was stopped, else what it could do."""

    name: str
    layer: str
    attempt: Callable[[dict[str, Any], sandbox.Policy], str | None]
    mandatory: bool = True


def run(victim: dict[str, Any], policy: sandbox.Policy) -> list[dict[str, Any]]:
    """Every probe against ``victim`` {"pid", "folder", "secret", "own", "port", "unix", "abstract"}."""
    results = []
    for probe in PROBES:
        try:
            through = probe.attempt(victim, policy)
        except OSError:
            through = None
        except Exception as error:  # noqa: BLE001  a probe that cannot run proves nothing
            through = f"the probe itself failed: {type(error).__name__}: {error}"
        results.append(
            {
                "name": probe.name,
                "layer": probe.layer,
                "mandatory": probe.mandatory and (probe.layer != "mounts" or bool(policy.hidden)),
                "blocked": through is None,
                "detail": through or "",
            }
        )
    return results


# -- files ------------------------------------------------------------------------------------------------------


def _read(path: str) -> str | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)
    return f"{path} could be opened"


def _write_new(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    path = os.path.join(victim["folder"], "written")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return "a file could be made"


def _overwrite_own(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    os.close(os.open(victim["own"], os.O_WRONLY | os.O_CLOEXEC))
    return "the model's own file could be opened for writing"


def _list(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    return f"a foreign folder could be listed: {os.listdir(victim['folder'])[:3]}"


def _remove(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    os.unlink(victim["secret"])
    return "a foreign file could be removed"


def _of_victim(what: str) -> Attempt:
    """A file in the victim's folder under /proc."""
    return lambda victim, policy: _read(f"/proc/{victim['pid']}/{what}")


def _names(path: str, foreign: Callable[[str], bool] = bool) -> Attempt:
    """Names in a folder that are none of the runner's business."""

    def attempt(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
        found = [name for name in os.listdir(path) if foreign(name)]
        return f"{path} could be listed: {found[:3]}" if found else None

    return attempt


def _write_below(folder: str) -> Attempt:
    def attempt(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
        os.close(os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600))  # without a name: none stays behind
        return f"a file could be made in {folder}"

    return attempt


# -- raw calls: refused means EPERM or ENOSYS, not an accident of their arguments ----------------------------------


def _refused(name: str, *args: Any) -> str | None:
    result, number = syscalls.call(name, *args)
    if result == -1 and number in _REFUSALS:
        return None
    return f"{name} was let through (errno {number})" if result == -1 else f"{name} worked"


def _call(name: str, *args: Any) -> Callable[[dict[str, Any], sandbox.Policy], str | None]:
    return lambda victim, policy: _refused(name, *args)


def _against_victim(name: str, *args: Any) -> Callable[[dict[str, Any], sandbox.Policy], str | None]:
    return lambda victim, policy: _refused(name, *(victim["pid"] if arg == "pid" else arg for arg in args))


def _on_own_file(name: str, *args: Any) -> Callable[[dict[str, Any], sandbox.Policy], str | None]:
    return lambda victim, policy: _refused(name, *(os.fsencode(victim["own"]) if arg == "own" else arg for arg in args))


def _row(name: str, args: tuple[Any, ...]) -> Attempt:
    return lambda victim, policy: _refused(name, *raw_probes.filled(args, victim, sandbox.FIRST_KEPT))


def _clone(flags: int) -> Attempt:
    def attempt(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
        result, number = syscalls.call("clone", flags, None, None, None, None)
        if result == 0:
            os._exit(0)
        if result > 0:
            os.waitpid(result, 0)
            return "a process could be cloned"
        return None if number in _REFUSALS else f"clone was let through (errno {number})"

    return attempt


def _fork(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a process could be forked"


def _clone3(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17)  # no flags, SIGCHLD: a plain fork
    result, number = syscalls.call("clone3", arguments, ctypes.sizeof(arguments))
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
        return "a process could be cloned"
    return None if number in _REFUSALS else f"clone3 was let through (errno {number})"


def _mode(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    return _refused("fchmodat", -100, os.fsencode(victim["own"]), 0o444, 0)


def _fd_mode(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    descriptor = os.open(victim["own"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _refused("fchmod", descriptor, 0o444)
    finally:
        os.close(descriptor)


def _owner_of_pipe(command: int) -> Callable[[dict[str, Any], sandbox.Policy], str | None]:
    def attempt(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
        reading, writing = os.pipe()
        try:
            return _refused("fcntl", reading, command, victim["pid"])
        finally:
            os.close(reading)
            os.close(writing)

    return attempt


def _terminal(request: int) -> Callable[[dict[str, Any], sandbox.Policy], str | None]:
    return lambda victim, policy: _refused("ioctl", sandbox.FIRST_KEPT, request, (ctypes.c_int * 1)(victim["pid"]))


def _vm_read(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)
    return _refused("process_vm_readv", victim["pid"], vector, 1, vector, 1, 0)


# -- limits and state --------------------------------------------------------------------------------------------


def _shared_memory(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS).close()
    return "anonymous shared memory could be mapped"


def _growing_stack(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100).close()  # MAP_GROWSDOWN
    return "memory that grows by itself could be mapped"


def _own_file_as_shared_memory(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    descriptor = os.open(victim["own"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        mmap.mmap(descriptor, 4, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE).close()
    finally:
        os.close(descriptor)
    return "the model's own file could be mapped for writing"


def _too_much_memory(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    mmap.mmap(-1, policy.memory_bytes + (64 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    return f"more than the quota of {policy.memory_bytes} bytes could be mapped"


def _wrong_limits(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: OPEN_FILES}
    for kind, most in wanted.items():
        soft, hard = resource.getrlimit(kind)
        if not (0 <= soft <= most and 0 <= hard <= most):
            return f"rlimit {kind} is {soft}/{hard}, not {most}"
    return None


def _capabilities(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    result, number = syscalls.call("capget", header, data)
    if result != 0:
        return f"the capabilities could not be read (errno {number})"
    return "the runner has capabilities" if any(data) else None


def _user(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    if policy.uid is not None and (os.getresuid() != (policy.uid,) * 3 or os.getgroups()):
        return "the runner is not under its own user"
    return None


def _prctl_is(option: int, wanted: int) -> Callable[[dict[str, Any], sandbox.Policy], str | None]:
    def attempt(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
        result, number = syscalls.call("prctl", option, 0, 0, 0, 0)
        return None if result == wanted else f"prctl {option} answers {result} (errno {number}), not {wanted}"

    return attempt


def _death_signal(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    found = (ctypes.c_int * 1)()
    syscalls.call("prctl", 2, found, 0, 0, 0)
    return None if found[0] == 9 else f"the death signal is {found[0]}, not SIGKILL"


def _open_descriptors(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    found = []
    for descriptor in range(sandbox.FIRST_KEPT + sandbox.KEPT, 1024):
        try:
            os.fstat(descriptor)
            found.append(descriptor)
        except OSError:
            continue
    return f"descriptors {found[:5]} are open" if found else None


def _environment(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    strange = sorted(
        name for name in os.environ if name.startswith(("SLIPWAY_", "DATABASE", "DJANGO", "AWS_", "EMAIL"))
    )
    return f"the environment holds {strange[:3]}" if strange else None


def _stat(victim: dict[str, Any], policy: sandbox.Policy) -> str | None:
    os.stat(victim["secret"])
    return "the existence of a file can be learnt by its name"


_BUFFER = (ctypes.c_uint64 * 16)()

PROBES: tuple[Probe, ...] = (
    Probe("read_secret", "landlock", lambda victim, policy: _read(victim["secret"])),
    Probe("read_etc_passwd", "landlock", lambda victim, policy: _read("/etc/passwd")),
    Probe("read_victim_environment", "landlock", lambda victim, policy: _read(f"/proc/{victim['pid']}/environ")),
    Probe("list_folder", "landlock", _list),
    Probe("write_file", "landlock", _write_new),
    Probe("overwrite_model", "landlock", _overwrite_own),
    Probe("remove_file", "landlock", _remove),
    Probe("tcp_socket", "seccomp", _call("socket", 2, 1, 0)),
    Probe("udp_socket", "seccomp", _call("socket", 2, 2, 0)),
    Probe("mptcp_socket", "seccomp", _call("socket", 2, 1, 262)),
    Probe("tcp6_socket", "seccomp", _call("socket", 10, 1, 0)),
    Probe("unix_socket", "seccomp", _call("socket", 1, 1, 0)),
    Probe("netlink_socket", "seccomp", _call("socket", 16, 3, 0)),
    Probe("vsock_socket", "seccomp", _call("socket", 40, 1, 0)),
    Probe("socketpair", "seccomp", _call("socketpair", 1, 1, 0, _BUFFER)),
    Probe("connect", "seccomp", _call("connect", sandbox.FIRST_KEPT, _BUFFER, 16)),
    Probe("bind", "seccomp", _call("bind", sandbox.FIRST_KEPT, _BUFFER, 16)),
    Probe("io_uring", "seccomp", _call("io_uring_setup", 4, _BUFFER)),
    Probe("fork", "seccomp", _fork),
    Probe("clone3", "seccomp", _clone3),
    Probe("execve", "seccomp", _call("execve", b"/nonexistent", None, None)),
    Probe("kill_victim", "seccomp", _against_victim("kill", "pid", 0)),
    Probe("tgkill_victim", "seccomp", _against_victim("tgkill", "pid", "pid", 0)),
    Probe("pidfd_victim", "seccomp", _against_victim("pidfd_open", "pid", 0)),
    Probe("queue_signal", "seccomp", _against_victim("rt_sigqueueinfo", "pid", 0, _BUFFER)),
    Probe("ptrace_victim", "seccomp", _against_victim("ptrace", 0x4206, "pid", 0, 0)),
    Probe("read_victim_memory", "seccomp", _vm_read),
    Probe("limits_of_victim", "seccomp", _against_victim("prlimit64", "pid", 7, None, _BUFFER)),
    Probe("pin_victim", "seccomp", _against_victim("sched_setaffinity", "pid", 8, _BUFFER)),
    Probe("signal_owner", "seccomp", _owner_of_pipe(8)),
    Probe("signal_number", "seccomp", _owner_of_pipe(10)),
    Probe("socket_owner", "seccomp", _terminal(0x8901)),
    Probe("type_into_terminal", "seccomp", _terminal(0x5412)),
    Probe("change_mode", "seccomp", _mode),
    Probe("change_mode_of_descriptor", "seccomp", _fd_mode),
    Probe("change_owner", "seccomp", _on_own_file("fchownat", -100, "own", -1, -1, 0)),
    Probe("change_times", "seccomp", _on_own_file("utimensat", -100, "own", None, 0)),
    Probe("change_attributes", "seccomp", _on_own_file("setxattr", "own", b"user.slipway", b"1", 1, 0)),
    Probe("truncate", "seccomp", _on_own_file("truncate", "own", -1)),
    Probe("watch_files", "seccomp", _call("inotify_init1", 0)),
    Probe("shared_memory", "seccomp", _shared_memory),
    Probe("memory_file", "seccomp", _call("memfd_create", b"x", 0)),
    Probe("sysv_memory", "seccomp", _call("shmget", 0x51190A, 4096, 0)),
    Probe("userfaultfd", "seccomp", _call("userfaultfd", 1)),
    Probe("keyring", "seccomp", _call("keyctl", 0, -4, 0)),
    Probe("bpf", "seccomp", _call("bpf", 0, _BUFFER, 48)),
    Probe("perf_events", "seccomp", _call("perf_event_open", _BUFFER, 0, -1, -1, 0)),
    Probe("unshare", "seccomp", _call("unshare", 0x10000000)),
    Probe("mount", "seccomp", _call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
    Probe("filter_is_on", "seccomp", _prctl_is(21, 2)),
    Probe("no_new_privileges", "no_new_privs", _prctl_is(39, 1)),
    Probe("dies_with_parent", "death_signal", _death_signal),
    Probe("capabilities", "identity", _capabilities),
    Probe("own_user", "identity", _user),
    Probe("memory_quota", "rlimits", _too_much_memory),
    Probe("resource_limits", "rlimits", _wrong_limits),
    Probe("open_descriptors", "descriptors", _open_descriptors),
    Probe("environment", "descriptors", _environment),
    Probe("read_own_environment", "landlock", lambda victim, policy: _read("/proc/self/environ")),
    Probe("read_own_memory_file", "landlock", lambda victim, policy: _read("/proc/self/mem")),
    Probe("read_own_map", "landlock", lambda victim, policy: _read("/proc/self/maps")),
    Probe("read_victim_map", "landlock", _of_victim("maps")),
    Probe("read_victim_memory_file", "landlock", _of_victim("mem")),
    Probe("read_victim_command", "landlock", _of_victim("cmdline")),
    Probe("read_victim_root", "landlock", _of_victim("root/etc/passwd")),
    Probe("list_processes", "landlock", _names("/proc", str.isdigit)),
    Probe("list_shared_memory", "landlock", _names("/dev/shm")),  # noqa: S108
    Probe("list_etc", "landlock", _names("/etc", lambda name: name == "passwd")),
    Probe("read_kernel_settings", "landlock", lambda victim, policy: _read("/proc/sys/kernel/hostname")),
    Probe("read_mounts", "landlock", lambda victim, policy: _read("/proc/self/mountinfo")),
    Probe("write_shared_memory_folder", "landlock", _write_below("/dev/shm")),  # noqa: S108
    Probe("write_temporary_folder", "landlock", _write_below("/tmp")),  # noqa: S108
    Probe("growing_stack", "seccomp", _growing_stack),
    Probe("map_own_file_for_writing", "landlock", _own_file_as_shared_memory),
    *(Probe(name, "seccomp", _clone(flags)) for name, flags in raw_probes.CLONES),
    *(Probe(name, "seccomp", _row(call, args)) for name, call, args in raw_probes.ROWS),
    Probe("learn_names", "mounts", _stat),  # without a launcher nothing stops this: told, not demanded
)


# What the zygote of a dependency set may beyond a runner: fork, within its user's limits; drop what capabilities it has (none); take
# the descriptors that come with its orders. It can make no socket, so there is nobody but the supervisor that it could send any to.
OPEN_TO_SETS = frozenset(
    {"fork", "clone", "vfork", "change_capabilities", "change_folder", "send_descriptors", "receive_descriptors"}
)


# What a training may beyond a runner: make, change and remove files, which Landlock or its mounts keep to its own folder: the probes that
# try it on foreign files (write_file, remove_file, overwrite_model) must fail all the same. No links, modes, owners or times.
OPEN_TO_TRAININGS = frozenset(
    {
        "make_folder", "make_folder_by_old_call", "make_file_by_old_call", "rename", "rename_by_old_call", "unlink", "truncate_descriptor",
        "allocate", "lock", "change_folder", "copy_inside_kernel", "send_file",
    }
)  # fmt: skip


def failures(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mandatory probes that got through."""
    return [result for result in results if result["mandatory"] and not result["blocked"]]
