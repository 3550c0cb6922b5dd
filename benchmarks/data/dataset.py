"""Image data that lives on the device as bytes: splits, training batches, evaluation batches.

Legend: N samples, B batch, C channels, H W height and width, P padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.streams import stream

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")


@dataclass(frozen=True)
class Split:
    """Images, uint8 `[N, C, H, W]`, and labels, int64 `[N]`."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.targets.numel()

    def subset(self, index: Tensor) -> Split:
        return Split(self.images[index], self.targets[index])

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Augmentation:
    """Random crop behind zero padding, and horizontal flip."""

    padding: int
    flip: bool


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before it is loaded, and how to load it.

    Attributes:
        summary: for listings.
        num_classes: K.
        num_train, num_test: images of the two splits.
        epochs: of a full training in the common protocol.
        lr: learning rate there; None: the student network's.
        mean, std: of each channel, in [0, 1], for normalisation.
        augmentation: in training.
        load: a part, from the folder of data sets and that of decoded images; the other part is not decoded.
    """

    summary: str
    num_classes: int
    num_train: int
    num_test: int
    epochs: int
    lr: float | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augmentation: Augmentation
    load: Callable[[Path, Path, Part], Split]


@dataclass(frozen=True)
class DataSet:
    """A data set ready for training.

    Attributes:
        train: what students learn from; a sample's index is its position here.
        evaluation: what they are evaluated on after every epoch.
        evaluation_name: "test", or "val" where a validation split was taken from the training set.
        mean, std: of each channel, in [0, 1], for normalisation.
    """

    train: Split
    evaluation: Split
    evaluation_name: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augmentation: Augmentation


@dataclass(frozen=True)
class Batch:
    """Normalised images `[B, C, H, W]` (channels last in memory), labels and sample indices `[B]`."""

    images: Tensor
    targets: Tensor
    index: Tensor

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Several batches, one behind the other, as one."""
        if len(batches) == 1:
            return batches[0]
        return cls(
            *(torch.cat(parts) for parts in zip(*((b.images, b.targets, b.index) for b in batches), strict=True))
        )


class Normalise:
    """Bytes to normalised float32, laid out channels last."""

    def __init__(self, data: DataSet, device: torch.device) -> None:
        std = torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        mean = torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.scale, self.shift = 1 / (255 * std), mean / std

    def __call__(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return images.float() * self.scale - self.shift


class TrainBatches:
    """The batches of every epoch, drawn and augmented on the device, the last one of an epoch short.

    Order and augmentation come from streams of their own for each epoch, and a sample's augmentation from its
    index: neither depends on what is trained, nor on where a run was interrupted.

    Args:
        data: the data set.
        batch_size: B.
        seed: the run's seed.
        device: where everything happens.
        max_steps: end each epoch after so many batches.
    """

    def __init__(
        self, data: DataSet, batch_size: int, seed: int, device: torch.device, max_steps: int | None = None
    ) -> None:
        split = data.train.to(device)
        self.augmentation = data.augmentation
        self.padded = F.pad(split.images, [self.augmentation.padding] * 4)
        self.targets = split.targets
        self.side = split.images.shape[-1]
        self.normalise = Normalise(data, device)
        self.batch_size, self.seed, self.device = batch_size, seed, device
        full = -(-len(split) // batch_size)
        self.steps_per_epoch = full if max_steps is None else min(full, max_steps)

    def epoch(self, epoch: int, start: int = 0, view: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from step `start` on; each `view` augments the same images in its own way."""
        num_data = self.targets.numel()
        order = torch.randperm(num_data, generator=stream(self.seed, "order", epoch)).to(self.device)
        rows, columns = self._crops(epoch, view)
        for step in range(start, self.steps_per_epoch):
            index = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield Batch(self._images(index, rows, columns), self.targets[index], index)

    def probe(self, batch_size: int) -> Batch:
        """The first samples without augmentation, for measuring."""
        index = torch.arange(min(batch_size, self.targets.numel()), device=self.device)
        rows, columns = (
            (torch.arange(self.side, device=self.device) + self.augmentation.padding).expand(
                self.targets.numel(), -1
            )
            for _ in range(2)
        )
        return Batch(self._images(index, rows, columns), self.targets[index], index)

    def _crops(self, epoch: int, view: int) -> tuple[Tensor, Tensor]:
        """Rows and columns of each sample's crop in the padded image, `[N, H]` and `[N, W]`."""
        num_data = self.targets.numel()
        generator = stream(self.seed, "augmentation", epoch, *([view] if view else []))
        offsets = torch.randint(0, 2 * self.augmentation.padding + 1, (2, num_data, 1), generator=generator)
        flips = torch.randint(0, 2, (num_data, 1), generator=generator).bool()
        along = torch.arange(self.side)
        backwards = along.flip(0) if self.augmentation.flip else along
        rows = offsets[0] + along
        columns = offsets[1] + torch.where(flips, backwards, along)
        return rows.to(self.device), columns.to(self.device)

    def _images(self, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        # One gather crops, flips and lays out: [B, H, W, C], seen as [B, C, H, W].
        cropped = self.padded[index[:, None, None], :, rows[index][:, :, None], columns[index][:, None, :]]
        return self.normalise(cropped.permute(0, 3, 1, 2))


class EvaluationBatches:
    """Batches of the evaluation split in order, without augmentation."""

    def __init__(self, data: DataSet, device: torch.device, batch_size: int = 500) -> None:
        self.split = data.evaluation.to(device)
        self.name = data.evaluation_name
        self.normalise = Normalise(data, device)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.split), self.batch_size):
            index = slice(start, start + self.batch_size)
            images, targets = self.split.images[index], self.split.targets[index]
            positions = torch.arange(start, start + targets.numel(), device=targets.device)
            yield Batch(self.normalise(images), targets, positions)
