"""Raw system calls that a runner must not be able to make: what the self-proof tries, as data.

Each row is (probe's name, call, arguments). The arguments are such that the call would do nothing, or fail late, were it let through. Words in
them stand for the victim: "pid", "own" (the model's file), "folder" (open to all), "absent" (no such file), "fd" (our status socket).
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

Row = tuple[str, str, tuple[Any, ...]]

BUFFER = (ctypes.c_uint64 * 16)()
_HERE, _EMPTY_PATH = -100, 0x1000
_SIGCHLD, _CLONE_VFORK, _CLONE_NEWUSER, _CLONE_NEWNS = 17, 0x4000, 0x10000000, 0x20000

FILES: tuple[Row, ...] = (
    ("make_folder", "mkdirat", (_HERE, "absent", 0o700)),
    ("make_folder_by_old_call", "mkdir", ("absent", 0o700)),
    ("make_device", "mknodat", (_HERE, "absent", 0o10600, 0)),  # a named pipe
    ("make_file_by_old_call", "creat", ("absent", 0o600)),
    ("rename", "renameat2", (_HERE, "absent", _HERE, "absent", 0)),
    ("rename_by_old_call", "rename", ("absent", "absent")),
    ("link", "linkat", (_HERE, "absent", _HERE, "absent", 0)),
    ("symlink", "symlinkat", (b"", _HERE, "absent")),  # an empty target: ENOENT
    ("unlink", "unlinkat", (_HERE, "absent", 0)),
    ("truncate_descriptor", "ftruncate", ("fd", 0)),
    ("allocate", "fallocate", ("fd", 0, 0, 1)),
    ("change_mode_by_old_call", "chmod", ("own", 0o444)),
    ("change_mode_by_new_call", "fchmodat2", (_HERE, "own", 0o444, 0)),
    ("change_owner_by_old_call", "chown", ("own", -1, -1)),
    ("change_owner_of_descriptor", "fchown", ("fd", -1, -1)),
    ("change_times_by_old_call", "utime", ("own", None)),
    ("change_attributes_of_link", "lsetxattr", ("own", b"user.slipway", b"1", 1, 0)),
    ("change_attributes_of_descriptor", "fsetxattr", ("fd", b"user.slipway", b"1", 1, 0)),
    ("change_attributes_by_new_call", "setxattrat", (_HERE, "own", 0, b"user.slipway", BUFFER, 16)),
    ("remove_attributes", "removexattr", ("own", b"user.slipway")),
    ("name_to_handle", "name_to_handle_at", (_HERE, "own", BUFFER, BUFFER, 0)),
    ("open_by_handle", "open_by_handle_at", (_HERE, BUFFER, 0)),
    ("open_with_rules", "openat2", (_HERE, "own", BUFFER, 24)),
    ("lock", "flock", ("fd", 8)),  # LOCK_UN
    ("change_folder", "chdir", ("folder",)),
    ("change_root", "chroot", ("folder",)),
    ("watch_by_old_call", "inotify_init", ()),
    ("watch_whole_system", "fanotify_init", (0x200, 0)),
    ("copy_inside_kernel", "copy_file_range", ("fd", None, "fd", None, 1, 0)),
    ("send_file", "sendfile", ("fd", "fd", None, 1)),
    ("splice", "splice", ("fd", None, "fd", None, 1, 0)),
    ("vmsplice", "vmsplice", ("fd", BUFFER, 1, 0)),
    ("tee", "tee", ("fd", "fd", 1, 0)),
)

PROCESSES: tuple[Row, ...] = (
    ("execveat", "execveat", (-1, b"", None, None, _EMPTY_PATH)),
    ("tkill_victim", "tkill", ("pid", 0)),
    ("queue_signal_to_thread", "rt_tgsigqueueinfo", ("pid", "pid", 0, BUFFER)),
    ("signal_group", "kill", (0, 0)),
    ("signal_everybody", "kill", (-1, 0)),
    ("signal_by_pidfd", "pidfd_send_signal", (-1, 0, None, 0)),
    ("descriptor_of_victim", "pidfd_getfd", (-1, 0, 0)),
    ("compare_with_victim", "kcmp", ("pid", "pid", 0, 0, 0)),
    ("advise_victim", "process_madvise", (-1, BUFFER, 0, 0, 0)),
    ("write_victim_memory", "process_vm_writev", ("pid", BUFFER, 0, BUFFER, 0, 0)),
    ("move_pages_of_victim", "move_pages", ("pid", 0, None, None, None, 0)),
    ("migrate_pages_of_victim", "migrate_pages", ("pid", 0, None, None)),
    ("priority_of_victim", "setpriority", (0, "pid", 19)),
    ("io_priority_of_victim", "ioprio_set", (1, "pid", 0)),
    ("scheduler_of_victim", "sched_setscheduler", ("pid", 0, BUFFER)),
    ("scheduler_attributes_of_victim", "sched_setattr", ("pid", BUFFER, 0)),
    ("scheduler_parameters_of_victim", "sched_setparam", ("pid", BUFFER)),
    ("own_session", "setsid", ()),
    ("group_of_victim", "setpgid", ("pid", 0)),
    ("own_limits", "setrlimit", (7, BUFFER)),
    ("timer", "timer_create", (0, None, BUFFER)),
)

IDENTITY: tuple[Row, ...] = (
    ("change_user", "setresuid", (-1, -1, -1)),
    ("change_group", "setresgid", (-1, -1, -1)),
    ("change_groups", "setgroups", (0, None)),
    ("change_user_of_files", "setfsuid", (-1,)),
    ("change_capabilities", "capset", (BUFFER, BUFFER)),
    ("personality", "personality", (0xFFFFFFFF,)),
    ("more_filters", "seccomp", (0, 1, None)),
)

KERNEL: tuple[Row, ...] = (
    ("io_uring_enter", "io_uring_enter", (-1, 0, 0, 0, None, 0)),
    ("old_asynchronous_io", "io_setup", (0, BUFFER)),
    ("secret_memory", "memfd_secret", (0,)),
    ("attach_sysv_memory", "shmat", (-1, None, 0)),
    ("sysv_semaphores", "semget", (0x51190A, 1, 0)),
    ("sysv_messages", "msgget", (0x51190A, 0)),
    ("message_queue", "mq_open", (b"slipway-absent", 0, 0, None)),
    ("add_key", "add_key", (None, None, None, 0, -4)),
    ("request_key", "request_key", (None, None, None, 0)),
    ("enter_namespace", "setns", (-1, 0)),
    ("unshare_mounts", "unshare", (_CLONE_NEWNS,)),
    ("unmount", "umount2", ("absent", 0)),
    ("change_mounts", "mount_setattr", (-1, b"", _EMPTY_PATH, BUFFER, 32)),
    ("copy_mounts", "open_tree", (_HERE, "own", 1)),
    ("move_mount", "move_mount", (-1, b"", -1, b"", 0)),
    ("open_file_system", "fsopen", (b"tmpfs", 0)),
    ("pivot_root", "pivot_root", ("absent", "absent")),
    ("swap", "swapon", ("absent", 0)),
    ("reboot", "reboot", (0, 0, 0, None)),
    ("load_kernel", "kexec_load", (0, 0, None, 0)),
    ("load_module", "init_module", (None, 0, None)),
    ("load_module_file", "finit_module", (-1, b"", 0)),
    ("accounting", "acct", ("absent",)),
    ("quotas", "quotactl", (0, None, 0, None)),
    ("kernel_log", "syslog", (10, None, 0)),
    ("host_name", "sethostname", (None, -1)),
    ("clock", "clock_adjtime", (0, None)),
    ("input_output_ports", "ioperm", (0, 0, 0)),
    ("segment_table", "modify_ldt", (0, None, 0)),
    ("lock_memory", "mlockall", (0,)),
)

NETWORK: tuple[Row, ...] = (
    ("listen", "listen", ("fd", 0)),
    ("socket_options", "setsockopt", ("fd", 1, 2, None, 0)),
    ("send_descriptors", "sendmsg", ("fd", None, 0)),
    ("send_many", "sendmmsg", ("fd", None, 0, 0)),
    ("receive_descriptors", "recvmsg", ("fd", None, 0)),
    ("send_to_address", "sendto", ("fd", BUFFER, 0, 0, BUFFER, 0)),
)

# Calls that are allowed with other arguments: (probe's name, call, arguments).
ARGUMENTS: tuple[Row, ...] = (
    ("take_back_death_signal", "prctl", (1, 0, 0, 0, 0)),
    ("be_dumpable", "prctl", (4, 1, 0, 0, 0)),
    ("filter_by_prctl", "prctl", (22, 2, None, 0, 0)),
    ("memory_map_by_prctl", "prctl", (35, 0, 0, 0, 0)),
    ("be_subreaper", "prctl", (36, 0, 0, 0, 0)),
    ("allow_tracer", "prctl", (0x59616D61, 0, 0, 0, 0)),
    ("signal_owner_of_thread", "fcntl", ("fd", 15, BUFFER)),
    ("lease", "fcntl", ("fd", 1024, 2)),
    ("notify", "fcntl", ("fd", 1026, 0)),
    ("seal", "fcntl", ("fd", 1033, 0)),
    ("record_lock", "fcntl", ("fd", 6, BUFFER)),
    ("socket_group", "ioctl", ("fd", 0x8902, BUFFER)),
    ("signal_on_input", "ioctl", ("fd", 0x5452, BUFFER)),
    ("own_terminal", "ioctl", ("fd", 0x540E, 0)),
    ("terminal_group", "ioctl", ("fd", 0x5410, BUFFER)),
    ("console", "ioctl", ("fd", 0x541C, BUFFER)),
    ("network_devices", "ioctl", ("fd", 0x8912, BUFFER)),
)

ROWS = (*FILES, *PROCESSES, *IDENTITY, *KERNEL, *NETWORK, *ARGUMENTS)

# What makes a process when it is let through: the child must end at once. (probe's name, flags of clone)
CLONES: tuple[tuple[str, int], ...] = (
    ("clone", _SIGCHLD),
    ("vfork", _CLONE_VFORK | _SIGCHLD),  # without sharing memory: the probe would not survive a real one
    ("clone_into_namespace", _CLONE_NEWUSER | _SIGCHLD),
)


def filled(args: tuple[Any, ...], victim: dict[str, Any], descriptor: int) -> tuple[Any, ...]:
    """The arguments with the victim's words in their places."""
    words = {
        "pid": victim["pid"],
        "own": os.fsencode(victim["own"]),
        "folder": os.fsencode(victim["folder"]),
        "absent": os.fsencode(os.path.join(victim["folder"], "absent", "file")),
        "fd": descriptor,
    }
    return tuple(words[arg] if isinstance(arg, str) else arg for arg in args)
