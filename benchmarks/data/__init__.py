"""Data sets by name, loaded once and kept as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import cifar100, digits
from benchmarks.data.dataset import (
    Augmentation,
    Batch,
    DataSet,
    EvaluationBatches,
    Split,
    TrainBatches,
)
from benchmarks.data.splits import stratified


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before it is loaded: its summary and its defaults in the common protocol.

    Attributes:
        summary: for listings.
        num_classes: K.
        epochs: of a full training.
        lr: learning rate; None: the student network's.
    """

    summary: str
    num_classes: int
    epochs: int
    lr: float | None


INFO = {
    "cifar100": DataInfo("50,000 + 10,000 natural images of 100 classes", cifar100.NUM_CLASSES, 240, None),
    "digits": DataInfo(
        "1,437 + 360 handwritten digits, minutes on a laptop, no download", digits.NUM_CLASSES, 4, None
    ),
}


def load(name: str, root: Path, cache: Path, validation: float) -> DataSet:
    """A data set by name.

    Args:
        name: one of `INFO`.
        root: folder that holds data sets.
        cache: folder for decoded images.
        validation: part of the training set, in [0, 1), that is split off (stratified, always the same) and
            evaluated on instead of the test set. 0: the test set.

    Raises:
        UserError: missing or damaged data.
    """
    module = cifar100 if name == "cifar100" else digits
    train, test = digits.load() if name == "digits" else cifar100.load(root, cache)
    evaluation, evaluation_name = test, "test"
    if validation:
        kept, held_out = stratified(train.targets, validation, seed=0)
        train, evaluation, evaluation_name = train.subset(kept), train.subset(held_out), "val"
    return DataSet(
        train, evaluation, evaluation_name, module.NUM_CLASSES, module.MEAN, module.STD, module.AUGMENTATION
    )


__all__ = [
    "INFO",
    "Augmentation",
    "Batch",
    "DataInfo",
    "DataSet",
    "EvaluationBatches",
    "Split",
    "TrainBatches",
    "load",
]
