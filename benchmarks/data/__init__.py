"""Data sets by name, loaded once and kept as bytes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.config import DataConfig
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


def load(config: DataConfig) -> DataSet:
    """A data set as it is configured.

    A validation part is stratified and always the same. Where it takes the test set's place, that is not even
    decoded.

    Raises:
        UserError: missing or damaged data.
    """
    info, root, cache = INFO[config.name], Path(config.root), Path(config.cache)
    train = info.load(root, cache, "train")
    if config.validation:
        kept, held_out = stratified(train.targets, config.validation)
        train, evaluation = train.subset(kept), train.subset(held_out)
    else:
        evaluation = info.load(root, cache, "test")
    return DataSet(train, evaluation, config.split, info.num_classes, info.mean, info.std, info.augmentation)


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
