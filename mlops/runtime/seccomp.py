"""The runner's system call filter: an allow-list in classic BPF, assembled here (no compiler, no libseccomp).

Everything not named is refused with EPERM, so that libraries fall back or raise; another architecture's entry (32-bit, x32) kills.
Calls that are allowed only with certain arguments come first, then the plain ones.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable

from mlops.runtime import syscalls

_LOAD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NR, _ARCH, _ARGS = 0, 4, 16
_X32_BIT = 0x40000000
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

_PLAIN_TEXT = """
    read write pread64 pwrite64 readv writev preadv pwritev preadv2 lseek close close_range
    openat open stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents64 statfs fstatfs
    getcwd fadvise64 umask munmap mremap mprotect madvise brk mincore membarrier msync
    futex futex_waitv set_robust_list get_robust_list rseq set_tid_address exit exit_group restart_syscall
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack rt_sigpending rt_sigtimedwait
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage
    poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2 pipe2 pipe dup dup2 dup3
    accept accept4 recvfrom shutdown getsockname getpeername getsockopt
    getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp getsid capget
    uname sysinfo getrandom arch_prctl sched_yield sched_getaffinity sched_getparam sched_getscheduler getcpu getpriority
    get_mempolicy getrlimit wait4 waitid
"""
PLAIN = tuple(_PLAIN_TEXT.split())

_CLONE_THREAD = 0x10000
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ: nothing that makes signals or locks.
_FCNTL = (0, 1, 2, 3, 4, 1030, 1032)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: nothing that pushes input or owns a terminal.
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# What a GPU driver's ioctls must not be mistaken for: FIOSETOWN, SIOCSPGRP, FIOASYNC, TIOCSTI, TIOCLINUX, TIOCSCTTY.
_IOCTL_NEVER = (0x8901, 0x8902, 0x5452, 0x5412, 0x541C, 0x540E)
# PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS, PR_SET_VMA.
_PRCTL = (2, 3, 15, 16, 21, 23, 39, 0x53564D41)
# With a GPU the driver maps device memory, makes its own event files and asks for memory policies.
_GPU_PLAIN = ("mbind", "set_mempolicy", "memfd_create")
# The zygote of a dependency set gets its orders with descriptors, and its children lock themselves in once more.
_FORK_PLAIN = (
    "recvmsg", "sendmsg", "setsid", "capset", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "chdir",
)  # fmt: skip
# A training makes files in its own folder, which Landlock or its mounts keep it to. No links, no modes, no owners, no times.
_WRITE_PLAIN = (
    "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "creat", "ftruncate", "fallocate", "fsync", "fdatasync",
    "flock", "copy_file_range", "sendfile", "chdir",
)  # fmt: skip
# PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT.
_PRCTL_LOCK = (38, 47)
# CLONE_NEWNS to CLONE_NEWNET, CLONE_PARENT, CLONE_PTRACE.
_CLONE_NEVER = 0x7E020000 | 0x8000 | 0x2000


def _low(index: int) -> int:
    return _ARGS + 8 * index  # both architectures are little-endian


def _high(index: int) -> int:
    return _low(index) + 4


def _argument_is(index: int, allowed: tuple[int, ...]) -> list[Instruction]:
    """Allow when the 32-bit argument is one of ``allowed`` (the kernel reads these arguments as 32-bit numbers)."""
    code: list[Instruction] = [(_LOAD, 0, 0, _low(index))]
    for value in allowed:
        code += [(_JEQ, 0, 1, value & 0xFFFFFFFF), (_RET, 0, 0, _ALLOW)]
    return [*code, (_RET, 0, 0, _REFUSE)]


def _argument_is_not(index: int, refused: tuple[int, ...]) -> list[Instruction]:
    code: list[Instruction] = [(_LOAD, 0, 0, _low(index))]
    for value in refused:
        code += [(_JEQ, 0, 1, value), (_RET, 0, 0, _REFUSE)]
    return [*code, (_RET, 0, 0, _ALLOW)]


def _zero_address(index: int) -> list[Instruction]:
    """Allow when a pointer argument is NULL (both halves)."""
    return [
        (_LOAD, 0, 0, _low(index)), (_JEQ, 1, 0, 0), (_RET, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _high(index)), (_JEQ, 1, 0, 0), (_RET, 0, 0, _REFUSE),
        (_RET, 0, 0, _ALLOW),
    ]  # fmt: skip


def _thread_only() -> list[Instruction]:
    return [(_LOAD, 0, 0, _low(0)), (_JSET, 0, 1, _CLONE_THREAD), (_RET, 0, 0, _ALLOW), (_RET, 0, 0, _REFUSE)]


def _private_or_file_mapping() -> list[Instruction]:
    """mmap: MAP_PRIVATE, or MAP_SHARED of a file; never shared anonymous memory, a growing stack or huge pages (past the quota)."""
    return [
        (_LOAD, 0, 0, _low(3)),
        (_JSET, 0, 1, 0x40100), (_RET, 0, 0, _REFUSE),  # MAP_HUGETLB | MAP_GROWSDOWN
        (_AND, 0, 0, 0x2F),  # the type and MAP_ANONYMOUS
        (_JEQ, 0, 1, 0x02), (_RET, 0, 0, _ALLOW),
        (_JEQ, 0, 1, 0x22), (_RET, 0, 0, _ALLOW),
        (_JEQ, 0, 1, 0x01), (_RET, 0, 0, _ALLOW),
        (_RET, 0, 0, _REFUSE),
    ]  # fmt: skip


def _no_namespaces() -> list[Instruction]:
    """clone: threads and children, but no namespace, no child of our parent's and none that another may trace."""
    return [(_LOAD, 0, 0, _low(0)), (_JSET, 0, 1, _CLONE_NEVER), (_RET, 0, 0, _REFUSE), (_RET, 0, 0, _ALLOW)]


def _lock_down_prctl() -> list[Instruction]:
    """What a runner may, and what its lock-down needs; the death signal can be set to SIGKILL and to nothing else."""
    return [
        (_LOAD, 0, 0, _low(0)), (_JEQ, 0, 3, 1),
        (_LOAD, 0, 0, _low(1)), (_JEQ, 0, 1, 9), (_RET, 0, 0, _ALLOW),
        *_argument_is(0, (*_PRCTL, *_PRCTL_LOCK)),
    ]  # fmt: skip


def _own_or_abort(pid: int) -> list[Instruction]:
    """tgkill: on itself; a child's abort() too, whose number is not known yet. Its user has no other processes."""
    return [(_LOAD, 0, 0, _low(2)), (_JEQ, 0, 1, 6), (_RET, 0, 0, _ALLOW), *_argument_is(0, (pid,))]


def _fork_rules(pid: int) -> dict[str, list[Instruction]]:
    """What the zygote of a dependency set may beyond a runner: fork, and what its children's own lock-down needs."""
    return {
        "clone": _no_namespaces(),
        "prctl": _lock_down_prctl(),
        "tgkill": _own_or_abort(pid),
        "seccomp": _argument_is(0, (_SET_MODE_FILTER,)),
        "setpriority": _argument_is(1, (0,)),
    }


def _rules(pid: int, *, gpu: bool) -> dict[str, list[Instruction]]:
    rules: dict[str, Callable[[], list[Instruction]]] = {
        "clone": _thread_only,
        "clone3": lambda: [(_RET, 0, 0, _MISSING)],  # its flags are behind a pointer; glibc then uses clone
        "mmap": (lambda: [(_RET, 0, 0, _ALLOW)]) if gpu else _private_or_file_mapping,
        "fcntl": lambda: _argument_is(1, _FCNTL),
        "ioctl": (lambda: _argument_is_not(1, _IOCTL_NEVER)) if gpu else (lambda: _argument_is(1, _IOCTL)),
        "prctl": lambda: _argument_is(0, _PRCTL),
        "kill": lambda: _argument_is(0, (pid,)),
        "tgkill": lambda: _argument_is(0, (pid,)),
        "prlimit64": lambda: _argument_is(0, (0, pid)),
        "sched_setaffinity": lambda: _argument_is(0, (0,)),
        "sendto": lambda: _zero_address(4),  # send() to the connected peer, no addresses
    }
    return {name: build() for name, build in rules.items()}


def assemble(
    pid: int, *, gpu: bool = False, forks: bool = False, writes: bool = False, machine: str | None = None
) -> list[Instruction]:
    """The filter of the process ``pid`` for ``machine`` (this one by default).

    ``forks`` for the zygote of a dependency set, ``writes`` for a training.
    """
    machine = machine or syscalls.machine()
    column = syscalls.ARCHITECTURES[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, syscalls.AUDIT_ARCH[machine]),
        (_RET, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        program += [(_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, _KILL)]
    for name, body in (_rules(pid, gpu=gpu) | (_fork_rules(pid) if forks else {})).items():
        known = syscalls.NUMBERS[name][column]
        if known is not None:
            program += [(_JEQ, 0, len(body), known), *body]
    for name in [
        *PLAIN,
        *(_GPU_PLAIN if gpu else ()),
        *(_FORK_PLAIN if forks else ()),
        *(_WRITE_PLAIN if writes else ()),
    ]:
        known = syscalls.NUMBERS[name][column]
        if known is not None:
            program += [(_JEQ, 0, 1, known), (_RET, 0, 0, _ALLOW)]
    return [*program, (_RET, 0, 0, _REFUSE)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: list[Instruction]) -> None:
    """Put every thread of this process under the filter, for ever. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    result, number = syscalls.call("seccomp", _SET_MODE_FILTER, _FLAG_TSYNC, _Program(len(program), code))
    if result != 0:
        # A positive result is the id of a thread that could not be put under the filter.
        raise OSError(number or errno.EBUSY, f"seccomp: {os.strerror(number or errno.EBUSY)}")
