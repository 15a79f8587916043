"""Linux system call numbers by name: (x86-64, aarch64); None where the architecture does not have the call."""

from __future__ import annotations

import ctypes
import platform

ARCHITECTURES = {"x86_64": 0, "aarch64": 1}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Numbers are ABI: they never change once a kernel has shipped them.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286), "lseek": (8, 62), "close": (3, 57),
    "close_range": (436, 436), "openat": (257, 56), "open": (2, None), "stat": (4, None), "lstat": (6, None), "fstat": (5, 80),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61), "statfs": (137, 43), "fstatfs": (138, 44),
    "getcwd": (79, 17), "fadvise64": (221, 223), "umask": (95, 166), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216),
    "mprotect": (10, 226), "madvise": (28, 233), "brk": (12, 214), "mincore": (27, 232), "membarrier": (324, 283),
    "msync": (26, 227), "futex": (202, 98), "futex_waitv": (449, 449), "set_robust_list": (273, 99),
    "get_robust_list": (274, 100), "rseq": (334, 293), "set_tid_address": (218, 96), "exit": (60, 93), "exit_group": (231, 94),
    "restart_syscall": (219, 128), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169),
    "time": (201, None), "times": (100, 153), "getrusage": (98, 165), "poll": (7, None), "ppoll": (271, 73),
    "select": (23, None), "pselect6": (270, 72), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd2": (290, 19), "pipe2": (293, 59), "pipe": (22, None),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "accept": (43, 202), "accept4": (288, 242), "recvfrom": (45, 207),
    "sendto": (44, 206), "shutdown": (48, 210), "getsockname": (51, 204), "getpeername": (52, 205), "getsockopt": (55, 209),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "getpgid": (121, 155), "getpgrp": (111, None), "getsid": (124, 156), "capget": (125, 90), "uname": (63, 160),
    "sysinfo": (99, 179), "getrandom": (318, 278), "arch_prctl": (158, None), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "getcpu": (309, 168),
    "getpriority": (140, 141), "get_mempolicy": (239, 236), "getrlimit": (97, 163), "wait4": (61, 260), "waitid": (247, 95),
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
    "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167), "sched_setaffinity": (203, 122), "socket": (41, 198),
    "connect": (42, 203), "bind": (49, 200), "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "chmod": (90, None),
    "fchmodat": (268, 53), "fchmod": (91, 52), "truncate": (76, 45), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "memfd_create": (319, 279), "shmget": (29, 194), "io_uring_setup": (425, 425), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "bpf": (321, 280), "unshare": (272, 97), "setxattr": (188, 5), "utimensat": (280, 88),
    "perf_event_open": (298, 241), "mount": (165, 40), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "socketpair": (53, 199), "fchownat": (260, 54), "inotify_init1": (294, 26), "mkdirat": (258, 34), "openat2": (437, 437),
    "rt_sigqueueinfo": (129, 138), "seccomp": (317, 277), "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446), "capset": (126, 91), "mbind": (237, 235),
    "set_mempolicy": (238, 237), "process_vm_writev": (311, 271),
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str:
    """This machine's architecture; OSError when we have no table for it."""
    name = platform.machine()
    name = {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name)
    if name not in ARCHITECTURES:
        raise OSError(f"no system call table for {name}")
    return name


def number(name: str) -> int | None:
    """The call's number on this machine."""
    return NUMBERS[name][ARCHITECTURES[machine()]]


def call(name: str, *args: int | bytes | ctypes.Array | ctypes.Structure | None) -> tuple[int, int]:
    """Make a raw system call: (result, errno); (-1, ENOSYS) where this architecture does not have it."""
    known = number(name)
    if known is None:
        return -1, 38
    plain: list[object] = []
    for arg in args:
        if arg is None or isinstance(arg, int):
            plain.append(ctypes.c_void_p(arg) if arg is None else ctypes.c_long(arg))
        elif isinstance(arg, bytes):
            plain.append(ctypes.c_char_p(arg))
        else:
            plain.append(ctypes.byref(arg))
    ctypes.set_errno(0)
    result = int(_libc.syscall(ctypes.c_long(known), *plain))
    return result, ctypes.get_errno() if result == -1 else 0
