"""Which students fit into a GPU's memory together, counted from their sizes before anything is trained.

An estimate from above; a cohort that does not fit all the same is halved when it fails. The main memory beside a
CPU holds more students than its cores would train in a lifetime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import data, models
from benchmarks.data import DataInfo
from benchmarks.training.build import specs_of
from benchmarks.variants import StudentConfig
from methods import build

USABLE = 0.8  # of a GPU's memory; the rest is the data set, the teacher and the driver's
AMPLE = 2**32  # bytes that no student needs for 64 images of 32 × 32 a step, nor in proportion for more or larger
FLOAT = 4  # bytes
COPIES = 3  # of a parameter: itself, its gradient, its momentum
MARGIN = 2  # on activations: a method's own, and the allocator's


def group_size(students: Sequence[StudentConfig], room: float) -> int:
    """How many of the students train together where groups of equal size are to fit into `room` bytes."""
    if sum(map(ample, students)) <= room:
        return len(students)
    needed = sum(bytes_of(student) for student in students)
    return math.ceil(len(students) / math.ceil(needed / room))


def ample(student: StudentConfig) -> float:
    """Bytes that a student does not need, without looking at it."""
    return AMPLE * student.train.batch_size / 64 * (data.INFO[student.data.name].side / 32) ** 2


def room(device: torch.device, sharing: float) -> float:
    """Bytes of a device that one of `sharing` tasks may use; without bound on a CPU."""
    if device.type != "cuda":
        return math.inf
    return USABLE * torch.cuda.get_device_properties(device).total_memory / sharing


def bytes_of(student: StudentConfig) -> int:
    """What a student takes while it trains: weights, gradients, momentum, buffers and activations."""
    info = data.INFO[student.data.name]
    targets = torch.arange(info.num_train) % info.num_classes
    method = build(student.method, *specs_of(student.pair, info), info.num_classes, targets)
    state, activations = _network(student.pair.student, info)
    return state + _state(method) + MARGIN * activations * method.num_views * student.train.batch_size


def _state(module: nn.Module) -> int:
    trained = sum(parameter.numel() for parameter in module.parameters())
    return COPIES * FLOAT * trained + sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())


@cache
def _network(name: str, info: DataInfo) -> tuple[int, int]:
    """Bytes of a network's state, and of what one image leaves behind for the backward pass."""
    outputs = []

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs.append(output.numel() * FLOAT)

    with torch.device("meta"), torch.no_grad():
        network = models.create(name, info.num_classes).eval()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                layer.register_forward_hook(count)
        network(info.blank)
    return _state(network), sum(outputs)
