"""What a server that has the process to itself sets in it: `Server.run`, never an embedded one."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import resource
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# glibc gives memory at the top of the heap back as soon as 128 KiB are free there, and takes
# blocks over 128 KiB from the system one by one. Messages of 64 KiB and more then cost a page
# fault for each 4 KiB of each message (benches/load.py, echo 64 KiB: 34 -> 22 µs of CPU a
# message, 1 MiB: 880 -> 380 µs).
_MALLOPT = {
    -1: 16 * 1024 * 1024,  # M_TRIM_THRESHOLD: so much may stay free at the top
    -2: 1024 * 1024,  # M_TOP_PAD: so much is taken from the system at once
    -3: 32 * 1024 * 1024,  # M_MMAP_THRESHOLD: larger blocks come from the system one by one
}


# Where the system sets no limit: what Linux has by default as the most that can be set.
MAX_DESCRIPTORS = 1 << 20

# What macOS takes at most, whatever it says that the hard limit is (OPEN_MAX).
_OPEN_MAX = 10_240


def set_lasting_objects_aside() -> None:
    """
    Let the collector not look again at what is there now: modules, functions, configuration.

    It would stop the server for longer than it needs for 15,000 clients (benches/pauses.py: a full
    collection 30 -> 3.7 ms). What becomes garbage of it stays; that is nearly nothing.
    """
    gc.collect()
    gc.freeze()


def raise_descriptor_limit() -> None:
    """Let the process have as many descriptors as its hard limit allows: one a connection."""
    soft, hard = map(_finite, resource.getrlimit(resource.RLIMIT_NOFILE))
    for wanted in (hard, min(hard, _OPEN_MAX)):
        if soft >= wanted:
            return
        if _limit_is_set_to(wanted):
            return


def _limit_is_set_to(soft: int) -> bool:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return True
    return False


def descriptors_allowed() -> int:
    """Tell how many descriptors the process may have now; where there is no limit, 2**20."""
    return _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _finite(limit: int) -> int:
    return MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else limit


def memory_allowed(root: Path = Path("/")) -> int:
    """
    Tell how many bytes the process may use; 0 where that can't be known.

    The least of the machine's memory, the limits of its control groups (v2 and v1) and the limit
    of its address space. `root` is where `proc` and `sys` are found.
    """
    limits = [*_physical_memory(), *_control_group_limits(root), *_address_space_limit()]
    return min(limits, default=0)


def cores_allowed(root: Path = Path("/")) -> int:
    """
    Tell how many cores the process may keep busy, at least 1.

    The least of the cores that it may run on and the quotas of its control groups (v2 and v1),
    rounded up. `root` is as above.
    """
    return max(1, min([_usable_cores(), *_core_quotas(root)]))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _core_quotas(root: Path) -> Iterator[int]:
    """Read how much of each period the process's control group and all above it may use."""
    for group, is_unified in _control_groups(root, "cpu"):
        names = ["cpu.max"] if is_unified else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        words = [word for name in names for line in _lines(group / name) for word in line.split()]
        if len(words) == 2 and all(map(str.isdecimal, words)):  # not "max", not -1
            quota, period = map(int, words)
            yield -(-quota // period)


def _physical_memory() -> Iterator[int]:
    with contextlib.suppress(ValueError, OSError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _address_space_limit() -> Iterator[int]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield soft


def _control_group_limits(root: Path) -> Iterator[int]:
    """Read the limits of the process's control group and of all above it."""
    for group, is_unified in _control_groups(root, "memory"):
        name = "memory.max" if is_unified else "memory.limit_in_bytes"
        yield from (int(text) for text in _lines(group / name) if text.isdecimal())


def _control_groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Name the process's control groups of a controller, and all above; tell whether of v2."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        is_unified = controllers == ""
        if not is_unified and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("" if is_unified else controller)
        group = mount / path.lstrip("/")
        # In a container the path may be the host's, and the mount the group itself.
        for each in (group, *group.parents):
            yield each, is_unified
            if each == mount:
                break


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def keep_freed_memory() -> None:
    """Let the allocator keep up to 16 MiB of freed memory for the next large messages (glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, size in _MALLOPT.items():
        mallopt(parameter, size)
