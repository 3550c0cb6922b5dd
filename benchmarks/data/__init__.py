"""Data sets by name, loaded once and kept as bytes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.config import DataConfig
from benchmarks.data.dataset import (
    UPRIGHT,
    Augmentation,
    Batch,
    DataInfo,
    DataSet,
    Draw,
    EvaluationBatches,
    Part,
    Split,
    TrainBatches,
    View,
    check,
    steps_per_epoch,
)
from benchmarks.data.splits import stratified
from benchmarks.errors import UserError, require
from methods import plugins
from methods.registry import import_all

if TYPE_CHECKING:
    INFO: dict[str, DataInfo]  # every data set by its name; raises UserError where a file of one cannot be imported


@cache
def _info() -> dict[str, DataInfo]:
    """Made when `INFO` is first asked for: by a command that is running, which can say which file is broken."""
    import_all("benchmarks.data", UserError)
    from benchmarks.data import cifar100, digits, tinyimagenet

    known = {"cifar100": cifar100.INFO, "digits": digits.INFO, "tinyimagenet": tinyimagenet.INFO}
    for entry in plugins.entries("data"):
        require(
            entry.name not in known, f"two data sets are called {entry.name}: {entry.value} is another package's"
        )
        try:
            info = entry.load()
        except (AttributeError, TypeError) as error:  # a `DataInfo` of an older version is made of less
            raise UserError(f"data set {entry.name} = {entry.value}: {error}") from None
        require(
            isinstance(info, DataInfo), f"data set {entry.name} = {entry.value}: name its DataInfo, as MODULE:INFO"
        )
        known[entry.name] = info
    return known


def __getattr__(name: str) -> Any:
    if name == "INFO":
        return _info()
    raise AttributeError(f"module 'benchmarks.data' has no attribute '{name}'")


def load(config: DataConfig) -> DataSet:
    """A data set as it is configured.

    A validation part is stratified and always the same. Where it takes the test set's place, that is not even
    decoded.

    Raises:
        UserError: missing or damaged data, or not what a data set must give.
    """
    info = _info()[config.name]
    train = _part(config, "train")
    if config.validation:
        kept, held_out = stratified(train.targets, config.validation)
        train, evaluation = train.subset(kept), train.subset(held_out)
    else:
        evaluation = _part(config, "test")
    remark = _remark(config, info, train, evaluation)
    return DataSet(
        train, evaluation, config.split, info.num_classes, info.mean, info.std, info.augmentation, remark
    )


def _remark(config: DataConfig, info: DataInfo, train: Split, evaluation: Split) -> str:
    """That there are not as many images as there should be, as where an archive was not unpacked to its end."""
    if config.validation:
        whole = len(train) + len(evaluation) == info.num_train
    else:
        whole = (len(train), len(evaluation)) == (info.num_train, info.num_test)
    return "" if whole else f", not the {info.num_train:,} and {info.num_test:,} of {config.name}"


def _part(config: DataConfig, part: Part) -> Split:
    info = _info()[config.name]
    split = info.load(Path(config.root), Path(config.cache), part)
    check(split, f"data={config.name}, {part} part", info)
    return split


__all__ = [
    "INFO",
    "UPRIGHT",
    "Augmentation",
    "Batch",
    "DataInfo",
    "DataSet",
    "Draw",
    "EvaluationBatches",
    "Split",
    "TrainBatches",
    "View",
    "load",
    "steps_per_epoch",
]
