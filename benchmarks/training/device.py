"""A device's name, its networks' precision, how long its work takes, and what its memory held at most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from benchmarks.config import Device, Precision, TrainConfig


def device_name(train: TrainConfig) -> str:
    """What a training runs on, for people."""
    return torch.cuda.get_device_name() if train.device == Device.cuda else f"the CPU, threads: {train.threads}"


def autocast(train: TrainConfig, device: torch.device) -> torch.autocast:
    """The networks' precision as a context."""
    return torch.autocast(device.type, torch.bfloat16, enabled=train.precision == Precision.bf16)


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself, without emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given: times measure work, not queues."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    work: Callable[[int], object],
    num_steps: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one step, over `num_steps` of them, which `work` does."""
    wait_for(device)
    started = clock()
    work(num_steps)
    wait_for(device)
    return (clock() - started) / num_steps


def begin_peak(device: torch.device) -> None:
    """Measure the peak of a GPU's memory from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """Peak memory: of the training on a GPU, of the whole process so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
