"""What a device does in steps, kernel by kernel, as torch's profiler sees it, also where they are replayed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.training.device import wait_for
from benchmarks.training.stopwatch import Loop

# Kinds of kernels, and of a CPU's operations, by what is in their names; the first that fits.
KINDS = {
    "compiled by torch": r"^triton_|CompiledFx|graph_\d+_cpp_fused",
    "convolutions": r"conv|fprop|dgrad|wgrad|nhwcAddPadding|ReduceSplitK|init_device_workspace",
    "matrix products": r"gemm|cublas|splitKreduce|aten::(add|b)?mm$",
    "batch norms": r"batch_norm|bn_(fw|bw)",
    "optimiser": r"multi_tensor_apply|fused_sgd",
    "copies and fillings": r"^Mem(set|cpy)|^memset|FillFunctor|copy|aten::(fill|zero)_",
}
OTHERS = "others"


@dataclass(frozen=True)
class Share:
    """A part of a step: number of kernels and the sum of their seconds, which may have passed side by side."""

    count: float
    seconds: float


def kernels(loop: Loop, num_steps: int) -> dict[str, Share]:
    """What a step of `loop` does, by the kernels' names, the longest first, over `num_steps` of them.

    On a CPU these are operations, without those that they call in turn.
    """
    on_gpu = loop.device.type == "cuda"
    loop.look_ahead(num_steps)
    wait_for(loop.device)
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        loop.run(num_steps)
        wait_for(loop.device)
    counts, seconds = dict[str, int](), dict[str, float]()
    for event in profiler.events() or []:
        if (event.device_type == DeviceType.CUDA) == on_gpu:
            spent = event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
            counts[event.name] = counts.get(event.name, 0) + 1
            seconds[event.name] = seconds.get(event.name, 0.0) + spent / 1e6
    longest = sorted(seconds, key=lambda name: -seconds[name])
    return {name: Share(counts[name] / num_steps, seconds[name] / num_steps) for name in longest}


def by_kind(found: Mapping[str, Share]) -> dict[str, Share]:
    """The shares of kernels, found by name, summed by `KINDS`: those that there are."""
    kinds: dict[str, list[Share]] = {kind: [] for kind in (*KINDS, OTHERS)}
    for name, share in found.items():
        kinds[kind_of(name)].append(share)
    return {kind: total(shares) for kind, shares in kinds.items() if shares}


def total(shares: Collection[Share]) -> Share:
    """The sum of some kernels' shares of a step."""
    return Share(sum(each.count for each in shares), sum(each.seconds for each in shares))


def kind_of(name: str) -> str:
    """The kind of a kernel or operation."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), OTHERS)
