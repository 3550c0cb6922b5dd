"""What `method=`, `pair=` and `data=` choose from, for every command that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import data
from benchmarks.config import DataConfig, PairConfig
from benchmarks.pairs import PAIRS
from methods import available, configure

DEFAULTS = {"data": "cifar100"}


def of_a_run() -> dict[str, Mapping[str, Any]]:
    """All that a run is chosen by."""
    methods = {name: configure(name) for name in available()}
    return {"method": methods, "pair": pairs(), "data": data_sets()}


def pairs() -> dict[str, PairConfig]:
    """The known pairs, and `custom` for any two networks."""
    return {name: PairConfig(name, *pair) for name, pair in PAIRS.items()} | {"custom": PairConfig()}


def data_sets() -> dict[str, DataConfig]:
    """Every data set."""
    return {name: DataConfig(name) for name in data.INFO}
