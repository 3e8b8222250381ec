"""What a server that has the process to itself sets in it: `Server.run`, never an embedded one."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource

# glibc gives memory at the top of the heap back as soon as 128 KiB are free there, and takes
# blocks over 128 KiB from the system one by one. Messages of 64 KiB and more then cost a page
# fault for each 4 KiB of each message (benches/load.py, echo 64 KiB: 34 -> 22 µs of CPU a
# message, 1 MiB: 880 -> 380 µs).
_MALLOPT = {
    -1: 16 * 1024 * 1024,  # M_TRIM_THRESHOLD: so much may stay free at the top
    -2: 1024 * 1024,  # M_TOP_PAD: so much is taken from the system at once
    -3: 32 * 1024 * 1024,  # M_MMAP_THRESHOLD: larger blocks come from the system one by one
}


def raise_descriptor_limit() -> None:
    """Let the process have as many descriptors as its hard limit allows: one a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS reports no hard limit and takes none beyond its own: then the soft one stays.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_freed_memory() -> None:
    """Let the allocator keep up to 16 MiB of freed memory for the next large messages (glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, size in _MALLOPT.items():
        mallopt(parameter, size)
