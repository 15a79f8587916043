"""Linux system call numbers by name: (x86-64, aarch64); None where the architecture does not have the call.

The one table of numbers: the filter, Landlock and the probes take theirs from here. Other architectures are refused by ``machine``.
"""

from __future__ import annotations

import ctypes
import platform
import struct

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
    # Never allowed and never made by us: known by name, so that probes try them and tests see both filters refuse them.
    "listen": (50, 201), "setsockopt": (54, 208), "sendmsg": (46, 211), "sendmmsg": (307, 269), "recvmsg": (47, 212),
    "recvmmsg": (299, 243), "tkill": (200, 130), "rt_tgsigqueueinfo": (297, 240), "signalfd": (282, None),
    "signalfd4": (289, 74), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "ftruncate": (77, 46),
    "fallocate": (285, 47), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "mknod": (133, None), "mknodat": (259, 33), "creat": (85, None),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "execveat": (322, 281), "shmat": (30, 196),
    "shmctl": (31, 195), "shmdt": (67, 197), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184), "mq_getsetattr": (245, 185), "memfd_secret": (447, 447), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "io_setup": (206, 0), "io_submit": (209, 2), "io_destroy": (207, 1),
    "add_key": (248, 217), "request_key": (249, 218), "setns": (308, 268), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "chdir": (80, 49), "fchdir": (81, 50), "mount_setattr": (442, 442),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kcmp": (312, 272), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438), "personality": (135, 92), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "splice": (275, 76), "vmsplice": (278, 75), "tee": (276, 77), "sendfile": (40, 71), "copy_file_range": (326, 285),
    "inotify_init": (253, None), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263), "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145),
    "setregid": (114, 143), "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159),
    "setfsuid": (122, 151), "setfsgid": (123, 152), "setrlimit": (160, 164), "setsid": (112, 157),
    "setpgid": (109, 154), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "vhangup": (153, 58), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450), "mlock": (149, 228), "mlock2": (325, 284), "mlockall": (151, 230),
    "remap_file_pages": (216, 234), "timer_create": (222, 107), "setitimer": (38, 103), "alarm": (37, None),
    "sync": (162, 81), "syncfs": (306, 267), "fsync": (74, 82), "fdatasync": (75, 83), "flock": (73, 32),
    "pkey_alloc": (330, 289), "pkey_mprotect": (329, 288), "cachestat": (451, 451), "fchmodat2": (452, 452),
    "map_shadow_stack": (453, 453), "statmount": (457, 457), "listmount": (458, 458), "lsm_set_self_attr": (460, 460),
    "mseal": (462, 462), "setxattrat": (463, 463), "removexattrat": (466, 466), "open_tree_attr": (467, 467),
    "file_setattr": (469, 469),
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str:
    """This machine's architecture. Raises OSError when there is no table for it, and for a 32-bit Python, whose numbers are others."""
    name = platform.machine()
    name = {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name.lower())
    if name not in ARCHITECTURES or struct.calcsize("P") != 8:
        raise OSError(
            f"there is no system call table for a {8 * struct.calcsize('P')}-bit Python on {name or 'this machine'}; "
            "models run on x86-64 and aarch64"
        )
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
