"""The machine that a bench runs on: what it is, what it lets us have, what its processes use."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def described() -> dict[str, object]:
    """Return what figures depend on, as they are kept."""
    return {
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def memory() -> str:
    """Return how much there is, as Linux says it."""
    lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("MemTotal"))


def require_linux() -> None:
    """End a bench that would not work elsewhere."""
    if sys.platform != "linux":
        raise SystemExit("this bench reads /proc, and its generator needs epoll: Linux only")


def raise_descriptor_limit() -> int:
    """Let this process, and those it starts, have as many descriptors as is allowed; return that."""
    import resource  # Not on Windows, where decode.py runs.

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has had, all threads and the kernel together."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
