"""Image data that lives on the device as bytes: splits, training batches, evaluation batches.

Legend: N samples, B batch, C channels, H W height and width, P padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.errors import require
from benchmarks.streams import stream
from benchmarks.tensors import tensors_sha256

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
CHANNELS = 3


@dataclass(frozen=True)
class Split:
    """Images, uint8 `[N, C, H, W]`, as high as wide, and labels, int64 `[N]`."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.targets.numel()

    def subset(self, index: Tensor) -> Split:
        return Split(self.images[index], self.targets[index])

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.targets.to(device))


def check(split: Any, whose: str, info: DataInfo) -> None:
    """Refuse what a data set's file gives and no training can take, or would take for something else.

    Args:
        split: what was loaded.
        whose: data set and part, for messages.
        info: what it must agree with.

    Raises:
        UserError: other types, shapes, sizes or labels than those of a `Split`.
    """
    require(isinstance(split, Split), f"{whose}: a {type(split).__name__} was loaded instead of a Split")
    images, labels = split.images, split.targets
    fits = _dtype(images) == "uint8" and images.ndim == 4 and images.shape[1:] == info.shape
    require(
        fits, f"{whose}: its images are {_kind(images)}, instead of uint8 [N, {', '.join(map(str, info.shape))}]"
    )
    fits = _dtype(labels) == "int64" and labels.ndim == 1
    require(fits, f"{whose}: its labels are {_kind(labels)}, instead of int64 [N]")
    fits = len(images) == len(labels) > 0
    require(
        fits, f"{whose}: {len(images):,} images and {len(labels):,} labels, instead of as many, and one at least"
    )
    lowest, highest = int(labels.min()), int(labels.max())
    fits = 0 <= lowest <= highest < info.num_classes
    require(fits, f"{whose}: its labels are {lowest} to {highest}, instead of 0 to {info.num_classes - 1} at most")


def _dtype(tensor: Any) -> str | None:
    return str(tensor.dtype).removeprefix("torch.") if isinstance(tensor, Tensor) else None


def _kind(tensor: Any) -> str:
    """Type and shape, as legends write them."""
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__module__}.{type(tensor).__name__}"
    return f"{_dtype(tensor)} {list(tensor.shape)}"


@dataclass(frozen=True)
class Augmentation:
    """Random crop behind zero padding, and horizontal flip.

    So an image can become finitely many others. They are numbered, as its crops: by the row of the crop, then by
    its column, then by the flip.
    """

    padding: int
    flip: bool

    @property
    def offsets(self) -> int:
        """Places of a crop along a side."""
        return 2 * self.padding + 1

    @property
    def num_crops(self) -> int:
        """All that one image can become."""
        return self.offsets**2 * (1 + self.flip)

    @property
    def unchanged(self) -> int:
        """The crop that is the image itself."""
        return (self.padding * self.offsets + self.padding) * (1 + self.flip)

    def draw(self, num_data: int, generator: torch.Generator) -> Tensor:
        """A crop for each of so many images, int64 `[N]`."""
        rows, columns = torch.randint(0, self.offsets, (2, num_data), generator=generator)
        crops = rows * self.offsets + columns
        return 2 * crops + torch.randint(0, 2, (num_data,), generator=generator) if self.flip else crops

    def flipped_as(self, crops: Tensor, others: Tensor) -> Tensor:
        """Crops that are mirrored where `others` are, and nowhere else."""
        return crops - crops % 2 + others % 2 if self.flip else crops

    def windows(self, side: int) -> Tensor:
        """Where in the padded image, row behind row, the pixels of each crop are, `[num_crops, side · side]`."""
        crops, along = torch.arange(self.num_crops)[:, None], torch.arange(side)
        offset, flipped = crops // (1 + self.flip), crops % (1 + self.flip)
        rows = offset // self.offsets + along
        columns = offset % self.offsets + torch.where(flipped.bool(), along.flip(0), along)
        return (rows[:, :, None] * (side + 2 * self.padding) + columns[:, None, :]).flatten(1)


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before it is loaded, and how to load it.

    Attributes:
        summary: for listings.
        num_classes: K.
        side: H and W of an image.
        num_train, num_test: images of the two splits.
        epochs: of a full training in the common protocol.
        lr: learning rate there; None: the student network's.
        mean, std: of each channel, in [0, 1], for normalisation.
        augmentation: in training.
        load: a part, from the folder of data sets and that of decoded images; the other part is not decoded.
    """

    summary: str
    num_classes: int
    side: int
    num_train: int
    num_test: int
    epochs: int
    lr: float | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augmentation: Augmentation
    load: Callable[[Path, Path, Part], Split]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists could not be hashed
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image, `[C, H, W]`."""
        return CHANNELS, self.side, self.side

    @property
    def blank(self) -> Tensor:
        """One black image `[1, C, H, W]`, on torch's default device, to see what a network makes of its shape."""
        return torch.zeros(1, *self.shape)


@dataclass(frozen=True)
class DataSet:
    """A data set ready for training.

    Attributes:
        train: what students learn from; a sample's index is its position here.
        evaluation: what they are evaluated on after every epoch.
        evaluation_name: "test", or "val" where a validation split was taken from the training set.
        mean, std: of each channel, in [0, 1], for normalisation.
        remark: what is to be known of it, beside how many images there are.
    """

    train: Split
    evaluation: Split
    evaluation_name: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augmentation: Augmentation
    remark: str = ""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the images and labels that students learn from, in their order."""
        return tensors_sha256({"images": self.train.images, "targets": self.train.targets})

    @property
    def summary(self) -> str:
        """How many images there are to learn from and to be evaluated on."""
        counts = f"{len(self.train):,} training and {len(self.evaluation):,} {self.evaluation_name} images"
        return counts + self.remark


class View(NamedTuple):
    """One of the ways in which a batch is shown: those of other numbers are cropped anew.

    Attributes:
        number: from 0.
        turns: quarter turns behind the crop, counter-clockwise.
    """

    number: int = 0
    turns: int = 0


UPRIGHT = View()


@dataclass(frozen=True)
class Draw:
    """Samples of the training set by their indices, and which of the augmentation's crops each becomes, `[B]`.

    All of them are of one view.
    """

    index: Tensor
    crop: Tensor
    view: View = UPRIGHT

    def split(self, size: int) -> Iterator[Draw]:
        """So many at a time, one after another; the last ones may be fewer."""
        for first in range(0, self.index.numel(), size):  # one by one: a GPU had to wait for all of an epoch's
            part = slice(first, first + size)
            yield Draw(self.index[part], self.crop[part], self.view)

    def clone(self) -> Draw:
        """The same in tensors of its own."""
        return Draw(self.index.clone(), self.crop.clone(), self.view)

    @classmethod
    def join(cls, draws: Sequence[Draw]) -> Draw:
        """Several upright ones, one behind the other."""
        return cls(torch.cat([draw.index for draw in draws]), torch.cat([draw.crop for draw in draws]))


@dataclass(frozen=True)
class Batch:
    """Normalised images `[B, C, H, W]` (channels last in memory), labels and sample indices `[B]`.

    In training `crop` says which of the augmentation's crops each image is, `[B]`; None where it is turned.
    """

    images: Tensor
    targets: Tensor
    index: Tensor
    crop: Tensor | None = None

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Several batches, one behind the other, as one for students, who need not know the crops."""
        if len(batches) == 1:
            return batches[0]
        images, targets, index = zip(*((each.images, each.targets, each.index) for each in batches), strict=True)
        return cls(torch.cat(images), torch.cat(targets), torch.cat(index))


class Normalise:
    """Bytes to normalised float32, laid out channels last."""

    def __init__(self, data: DataSet, device: torch.device) -> None:
        std = torch.tensor(data.std, device=device).view(1, -1, 1, 1)
        mean = torch.tensor(data.mean, device=device).view(1, -1, 1, 1)
        self.scale, self.shift = 1 / (255 * std), mean / std

    def __call__(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) * self.scale - self.shift


def steps_per_epoch(num_data: int, batch_size: int, max_steps: int | None) -> int:
    """Batches of an epoch, the last of which may be short; at most so many."""
    full = -(-num_data // batch_size)
    return full if max_steps is None else min(full, max_steps)


class TrainBatches:
    """The batches of every epoch, augmented on the device, the last one of an epoch short.

    Order and augmentation come from streams of their own for each epoch, and a sample's augmentation from its
    index: neither depends on what is trained, nor on where a run was interrupted.

    Args:
        data: the data set.
        batch_size: B.
        seed: the run's seed.
        device: where images and batches are.
        max_steps: end each epoch after so many batches.
    """

    def __init__(
        self, data: DataSet, batch_size: int, seed: int, device: torch.device, max_steps: int | None = None
    ) -> None:
        split = data.train.to(device)
        self.augmentation = data.augmentation
        padded = F.pad(split.images, [self.augmentation.padding] * 4)
        self.padded = padded.contiguous(memory_format=torch.channels_last)  # so that it is a list of pixels
        self.targets = split.targets
        self.side = split.images.shape[-1]
        self.windows = self.augmentation.windows(self.side).to(device)
        self.normalise = Normalise(data, device)
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.steps_per_epoch = steps_per_epoch(len(split), batch_size, max_steps)

    @property
    def last_batch_size(self) -> int:
        """Samples of an epoch's last batch."""
        return min(self.batch_size, self.targets.numel() - (self.steps_per_epoch - 1) * self.batch_size)

    def epoch(self, epoch: int, start: int = 0, views: Sequence[View] = (UPRIGHT,)) -> Iterator[tuple[Draw, ...]]:
        """What the steps of `epoch` from `start` on are made of: the same samples in each of the views."""
        draws = [self.draws(epoch, start, view).split(self.batch_size) for view in views]
        return zip(*draws, strict=True)

    def draws(self, epoch: int, start: int = 0, view: View = UPRIGHT) -> Draw:
        """The whole of it, one batch behind the other; each view crops and mirrors the same samples in its own way.

        One that is turned is mirrored where the first view is: what is to be told from its turn is one image.
        """
        order = torch.randperm(self.targets.numel(), generator=stream(self.seed, "order", epoch))
        crops = self._crops(epoch, view.number)
        if view.turns:
            crops = self.augmentation.flipped_as(crops, self._crops(epoch, 0))
        index = order[start * self.batch_size : self.steps_per_epoch * self.batch_size]
        return Draw(index.to(self.device), crops[index].to(self.device), view)

    def _crops(self, epoch: int, number: int) -> Tensor:
        generator = stream(self.seed, "augmentation", epoch, *([number] if number else []))
        return self.augmentation.draw(self.targets.numel(), generator)

    def batch(self, draw: Draw) -> Batch:
        """The batch of these samples; reads no device value."""
        index, crop = draw.index, draw.crop
        _, channels, height, width = self.padded.shape
        # One gather of pixels crops, flips and lays out: [B, H, W, C], seen as [B, C, H, W].
        chosen = self.windows[crop] + height * width * index[:, None]
        pixels = self.padded.permute(0, 2, 3, 1).view(-1, channels).index_select(0, chosen.flatten())
        images = pixels.view(-1, self.side, self.side, channels).permute(0, 3, 1, 2)
        if not draw.view.turns:
            return Batch(self.normalise(images), self.targets[index], index, crop)
        return Batch(self.normalise(images.rot90(draw.view.turns, (2, 3))), self.targets[index], index)

    def first(self, size: int) -> Draw:
        """The first samples without augmentation, for measuring."""
        index = torch.arange(min(size, self.targets.numel()), device=self.device)
        return Draw(index, torch.full_like(index, self.augmentation.unchanged))

    def probe(self, batch_size: int) -> Batch:
        """The batch of the first samples without augmentation."""
        return self.batch(self.first(batch_size))


class EvaluationBatches:
    """Batches of the evaluation split in order, without augmentation."""

    def __init__(self, data: DataSet, device: torch.device, batch_size: int | None = None) -> None:
        # Launching a small network's kernels takes a GPU's host longer than they run on 500 images.
        batch_size = batch_size or (1000 if device.type == "cuda" else 500)
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
