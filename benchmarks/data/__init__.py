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
    Part,
    Split,
    TrainBatches,
    check,
)
from benchmarks.data.splits import stratified

INFO = {"cifar100": cifar100.INFO, "digits": digits.INFO}


def load(config: DataConfig) -> DataSet:
    """A data set as it is configured.

    A validation part is stratified and always the same. Where it takes the test set's place, that is not even
    decoded.

    Raises:
        UserError: missing or damaged data, or not what a data set must give.
    """
    info = INFO[config.name]
    train = _part(config, "train")
    if config.validation:
        kept, held_out = stratified(train.targets, config.validation)
        train, evaluation = train.subset(kept), train.subset(held_out)
    else:
        evaluation = _part(config, "test")
    return DataSet(train, evaluation, config.split, info.num_classes, info.mean, info.std, info.augmentation)


def _part(config: DataConfig, part: Part) -> Split:
    info = INFO[config.name]
    split = info.load(Path(config.root), Path(config.cache), part)
    check(split, f"data={config.name}, {part} part", info.num_classes)
    return split


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
