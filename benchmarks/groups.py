"""What `method=`, `pair=` and `data=` choose from, for every command that has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from benchmarks import data
from benchmarks.config import DataConfig, PairConfig
from benchmarks.pairs import PAIRS
from methods import available, configure

DEFAULTS = {"method": None, "pair": None, "data": "cifar100"}  # of `of_a_run`


def of_a_run() -> dict[str, Mapping[str, Any]]:
    """All that a run is chosen by."""
    return {"method": Options(available, configure), "pair": pairs(), "data": data_sets()}


class Options(Mapping[str, Any]):
    """A group of choices by name, each from a file of a package.

    They are imported when a command is running, which can then say which of them is broken.

    Args:
        names: of all.
        make: the configuration of one.
    """

    def __init__(self, names: Callable[[], Collection[str]], make: Callable[[str], Any]) -> None:
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


def pairs() -> dict[str, PairConfig]:
    """The known pairs, and `custom` for any two networks."""
    return {name: PairConfig(name, *pair) for name, pair in PAIRS.items()} | {"custom": PairConfig()}


def data_sets() -> Mapping[str, DataConfig]:
    """Every data set."""
    return Options(lambda: data.INFO, DataConfig)
