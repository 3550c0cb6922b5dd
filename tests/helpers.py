"""Tiny networks' features and methods built on them, shared by the tests of `methods`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import methods
from benchmarks.data import INFO, UPRIGHT, Batch, DataInfo, TrainBatches, View
from benchmarks.training.graphs import HostReads
from methods import Features, FeatureSpec, Method

NUM_CLASSES = 4
TARGETS = torch.arange(40) * 7 % NUM_CLASSES  # labels of a training set of 40
LONGER = torch.tensor([3, 17, 0, 28, 39, 10, 5, 22])  # a batch for methods of four views: its positions in it
INDEX = LONGER[:6]  # the batch of all others
TARGET = TARGETS[INDEX]

# Methods without a connector cannot serve pairs of unequal widths.
OF_UNEQUAL_WIDTH = {
    "wrn40_2_wrn40_1",
    "vgg13_mobilenetv2",
    "resnet50_mobilenetv2",
    "resnet50_vgg8",
    "resnet32x4_shufflev1",
    "resnet32x4_shufflev2",
    "wrn40_2_shufflev1",
}
IMPOSSIBLE = {"kdsvd": (OF_UNEQUAL_WIDTH, "equal width"), "fsp": (OF_UNEQUAL_WIDTH, "equally many channels")}


def info(num_classes: int = 10) -> DataInfo:
    """A data set of so many classes."""
    return dataclasses.replace(INFO["digits"], num_classes=num_classes)


def random_features(
    channels: tuple[int, ...] = (3, 4, 6, 5),
    sides: tuple[int, ...] = (8, 8, 4, 4),
    *,
    embedding: int = 7,
    seed: int = 0,
    batch: int = 6,
    signed: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Features:
    """Features like a network's: rectified maps with exact zeros unless `signed`, logits a few units wide."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    maps = [draw(batch, c, side, side) for c, side in zip(channels, sides, strict=True)]
    preacts = tuple(draw(*each.shape) for each in maps)
    stages = tuple(maps if signed else [each.relu() for each in maps])
    vector, logits = draw(batch, embedding), 3 * draw(batch, NUM_CLASSES)
    return Features(stages, preacts, vector, logits, draw(batch, embedding, sides[-1], sides[-1]).relu())


def draw(seed: int, *shape: int) -> Tensor:
    """Normal random numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_maps(seed: int, channels: int, side: int, batch: int = 3) -> Tensor:
    """The same as square maps, `[B, C, H, W]`."""
    return draw(seed, batch, channels, side, side)


class Operations(TorchDispatchMode):
    """Lists what is computed, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view:
            self.names.append(function.name().split(".")[0])
        return function(*args, **(kwargs or {}))


def student_features(seed: int = 1, **kwargs: Any) -> Features:
    return random_features(seed=seed, **kwargs)


def teacher_features(seed: int = 2, **kwargs: Any) -> Features:
    return random_features(**({"channels": (3, 5, 7, 8), "embedding": 9, "seed": seed} | kwargs))


def with_grad(features: Features) -> Features:
    """The same values as leaves that collect gradients."""

    return features.map(lambda tensor: tensor.detach().clone().requires_grad_())


def tensors(features: Features) -> dict[str, tuple[Tensor, ...]]:
    """The tensors of each part, by the names that `Method.needs` uses."""
    parts = {field.name: getattr(features, field.name) for field in dataclasses.fields(features)}
    whole = {name: part if isinstance(part, tuple) else (part,) for name, part in parts.items()}
    return {name: tuple(tensor for tensor in part if tensor is not None) for name, part in whole.items()}


class Headed:
    """What a method may ask of a network: head and batch norms, with random values, that fit its features."""

    def __init__(self, features: Features, seed: int) -> None:
        dim, num_classes, dtype = features.embedding.shape[1], features.logits.shape[1], features.logits.dtype
        self.head = torch.nn.utils.skip_init(torch.nn.Linear, dim, num_classes, dtype=dtype)
        self._norms = torch.nn.ModuleList(
            torch.nn.BatchNorm2d(x.shape[1], dtype=dtype) for x in features.preacts[1:]
        )
        for module in (self.head, self._norms):
            randomise(module, seed)
            module.to(features.logits.device)

    def norms(self) -> tuple[torch.nn.BatchNorm2d, ...]:
        return tuple(self._norms)


def make(name: str, student: Features, teacher: Features, *, seed: int = 0, **config: Any) -> Method[Any]:
    """`methods.create` for these features, where and of the type that they are, as the harness makes it ready."""
    device = student.logits.device
    method = methods.create(
        name,
        FeatureSpec.of(student),
        FeatureSpec.of(teacher),
        num_classes=NUM_CLASSES,
        targets=TARGETS.to(device),
        generator=torch.Generator(device).manual_seed(seed),
        **config,
    ).to(student.logits.dtype)
    method.prepare(Headed(teacher, seed=1), Headed(student, seed=2))
    method.epoch(0)
    return method


def terms_of(method: Method[Any], student: Features, teacher: Features) -> dict[str, Tensor]:
    """The method's terms on the one batch that the tests use."""
    return method(method.predict(student), teacher, *labels_of(teacher))


def labels_of(features: Features) -> tuple[Tensor, Tensor]:
    """Labels and indices of the tests' batch, of as many images as there are features of."""
    index = LONGER[: len(features.logits)]
    return TARGETS[index].to(features.logits.device), index.to(features.logits.device)


def pretraining_terms_of(method: Method[Any], student: Features, teacher: Features) -> dict[str, Tensor]:
    """The same in the stage before the main training; nothing where there is none."""
    if method.pretraining is None:
        return {}
    return method.pretrain(student if method.pretraining.student else None, teacher, *labels_of(teacher))


def random_logits(seed: int, batch: int = 5, classes: int = 7, scale: float = 3.0) -> Tensor:
    """In float64, `[batch, classes]`."""
    return scale * draw(seed, batch, classes)


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def batch_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Batch norm in training, `[B, C, H, W]`: the batch's own mean and biased variance."""
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    scaled = (x - mean) / np.sqrt(variance + eps)
    return scaled * weight[None, :, None, None] + bias[None, :, None, None]


def convolution(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0, stride: int = 1, padding: int = 0
) -> np.ndarray:
    """Position by position, `[B, C, H, W]` with `weight` `[D, C, k, k]`."""
    size = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    side = (padded.shape[-1] - size) // stride + 1
    out = np.empty((x.shape[0], weight.shape[0], side, side))
    for i in range(side):
        for j in range(side):
            patch = padded[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, :, i, j] = np.einsum("bchw,dchw->bd", patch, weight) + bias
    return out


def connected(connector: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """What a convolution that keeps the side, without bias, and its batch norm make of maps in training."""
    weight, gamma, beta = (parameter.detach().numpy() for parameter in connector.parameters())
    return batch_norm(convolution(x, weight, padding=weight.shape[-1] // 2), gamma, beta)


def deconvolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """`[B, C, H, W]` with `weight` `[C, D, k, k]`: every input position paints its kernel onto the output."""
    size, side = weight.shape[-1], x.shape[-1]
    full = np.zeros((x.shape[0], weight.shape[1], *[(side - 1) * stride + size] * 2))
    for i in range(side):
        for j in range(side):
            paint = np.einsum("bc,cdhw->bdhw", x[:, :, i, j], weight)
            full[:, :, i * stride : i * stride + size, j * stride : j * stride + size] += paint
    return full[:, :, padding:-padding, padding:-padding] + bias[None, :, None, None]


def block_mean(x: np.ndarray, grid: int) -> np.ndarray:
    """Means over the square blocks of `[B, C, H, W]`: `[B, C, grid, grid]`."""
    batch, channels, side, _ = x.shape
    size = side // grid
    out = np.empty((batch, channels, grid, grid))
    for i in range(grid):
        for j in range(grid):
            out[:, :, i, j] = x[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size].mean(axis=(2, 3))
    return out


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values, so that no weight hides at 1 and no bias at 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def epoch_of(batches: TrainBatches, epoch: int, start: int = 0, view: View = UPRIGHT) -> Iterator[Batch]:
    """The batches of an epoch in one of its views."""
    return map(batches.batch, batches.draws(epoch, start, view).split(batches.batch_size))


@contextlib.contextmanager
def no_host_reads() -> Iterator[None]:
    """Fails where something within it makes a GPU's host wait, or brings a tensor from Python."""
    with HostReads() as reads:
        yield
    assert reads.found is None, reads.found


def same_state(first: object, second: object) -> bool:
    """Equal to the bit, however deep."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same_state, first, second))
    return first == second


def cifar100_root() -> Path | None:
    """A folder with the real CIFAR-100: what KD_DATA names, else `shared/data` beside the checkout."""
    places = (Path(os.environ.get("KD_DATA") or "data"), Path(__file__).parents[2] / "shared" / "data")
    forms = ("cifar-100-python", "cifar100", "train*.parquet", "data/train*.parquet")
    return next((place for place in places if any(any(place.glob(form)) for form in forms)), None)
