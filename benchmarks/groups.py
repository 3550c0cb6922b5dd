"""What `method=`, `pair=` and `data=` choose from, for every command that has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import data
from benchmarks.config import DataConfig, PairConfig
from benchmarks.pairs import PAIRS
from methods import MethodConfig, available, configure

DEFAULTS = {"method": None, "pair": None, "data": "cifar100"}  # of `of_a_run`


def of_a_run() -> dict[str, Mapping[str, Any]]:
    """All that a run is chosen by."""
    return {"method": Methods(), "pair": pairs(), "data": data_sets()}


class Methods(Mapping[str, MethodConfig]):
    """Every method with its defaults.

    The registry is asked for them when a command is running, which can then say which file of a method is broken.
    """

    def __getitem__(self, name: str) -> MethodConfig:
        if name not in available():
            raise KeyError(name)
        return configure(name)

    def __iter__(self) -> Iterator[str]:
        return iter(available())

    def __len__(self) -> int:
        return len(available())


def pairs() -> dict[str, PairConfig]:
    """The known pairs, and `custom` for any two networks."""
    return {name: PairConfig(name, *pair) for name, pair in PAIRS.items()} | {"custom": PairConfig()}


def data_sets() -> dict[str, DataConfig]:
    """Every data set."""
    return {name: DataConfig(name) for name in data.INFO}
