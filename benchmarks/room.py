"""How much memory, and room on a disk, is free."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import torch

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> float:
    """Bytes that a process can still take: of a GPU's memory, or of the machine's within what its job may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_available(), _left_to_the_job())


def _available() -> float:
    """Bytes that the kernel counts as free for a new process; all that there are where it does not count."""
    try:
        entries = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(entries["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_to_the_job() -> float:
    """Bytes that its control group leaves a process in a container or a batch job; without bound elsewhere."""
    try:
        name = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        return math.inf
    own = CONTROL_GROUPS / name
    return min(_limit(group) for group in (own, *own.parents))


def _limit(group: Path) -> float:
    try:
        used = int((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        files = int(counts["active_file"]) + int(counts["inactive_file"])  # kept while nobody wants the room
        return int((group / "memory.max").read_text()) - used + files
    except (OSError, KeyError, ValueError):  # no such group, or one without a limit
        return math.inf


def free_disk(folder: Path) -> float:
    """Bytes free where a folder is or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
