"""Data sets by name, loaded once and kept as bytes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import cifar100, digits
from benchmarks.data.dataset import (
    Augmentation,
    Batch,
    DataInfo,
    DataSet,
    Draw,
    EvaluationBatches,
    Split,
    TrainBatches,
)
from benchmarks.data.splits import stratified

INFO = {"cifar100": cifar100.INFO, "digits": digits.INFO}


def load(name: str, root: Path, cache: Path, validation: float) -> DataSet:
    """A data set by name.

    The test set is not even decoded where a validation part takes its place.

    Args:
        name: one of `INFO`.
        root: folder that holds data sets.
        cache: folder for decoded images.
        validation: part of the training set, in [0, 1), that is split off (stratified, always the same) and
            evaluated on instead of the test set. 0: the test set.

    Raises:
        UserError: missing or damaged data.
    """
    info = INFO[name]
    train = info.load(root, cache, "train")
    if validation:
        kept, held_out = stratified(train.targets, validation, seed=0)
        train, evaluation, evaluation_name = train.subset(kept), train.subset(held_out), "val"
    else:
        evaluation, evaluation_name = info.load(root, cache, "test"), "test"
    return DataSet(train, evaluation, evaluation_name, info.num_classes, info.mean, info.std, info.augmentation)


__all__ = [
    "INFO",
    "Augmentation",
    "Batch",
    "DataInfo",
    "DataSet",
    "Draw",
    "EvaluationBatches",
    "Split",
    "TrainBatches",
    "load",
]
