"""Processes of one command that share a machine: how they begin, end, and what each takes of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

import torch


def start(process: BaseProcess) -> None:
    """Start a process that leaves Ctrl-C to this one: it reaches all processes of a terminal, from the first."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)


def settle(slot: int, slots: int, cuda: bool) -> None:
    """In a process that was started: in a group of its own, as long as its parent lives, with its share.

    Args:
        slot: which share, from 0.
        slots: how many there are.
        cuda: whether a GPU is among what is shared.
    """
    os.setpgrp()
    threading.Thread(target=_follow_parent, daemon=True).start()
    _take_share(slot, slots, cuda)


def _follow_parent() -> None:
    """Save and end when the parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _take_share(slot: int, slots: int, cuda: bool) -> None:
    """Take a share of the cores and, where there are GPUs, one of them."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        size = max(1, len(cores) // slots)
        start = slot * size % len(cores)
        os.sched_setaffinity(0, cores[start : start + size])
    if cuda:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(k) for k in range(torch.cuda.device_count())]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
