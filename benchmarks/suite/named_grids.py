"""Grids that have a name: `suite=NAME`. Each is a set of settings; what is typed beside it counts more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NamedGrid:
    """Settings under a name.

    Attributes:
        summary: for listings.
        settings: of the command.
        data: the data set; None: the command's default.
    """

    summary: str
    settings: Mapping[str, Any]
    data: str | None = None


def _aftkd(label: str, **changed: Any) -> dict[str, Any]:
    return {"name": "aftkd", "label": label, **changed}


NAMED_GRIDS = {
    "crd_table": NamedGrid(
        "every method on CRD's thirteen pairs, five seeds as in its tables (ICLR 2020)",
        {"methods": ["all"], "pairs": ["all"], "seeds": [0, 1, 2, 3, 4]},
    ),
    "ablation_aftkd": NamedGrid(
        "AFT-KD with one thing changed at a time, beside its default and the student alone; three seeds",
        {
            "methods": [
                "none",
                "kd",
                "aftkd",
                _aftkd("attention only", content="attention"),
                _aftkd("features only", content="features"),
                _aftkd("degree 0.25", degree=0.25),
                _aftkd("degree 0.75", degree=0.75),
                _aftkd("degree 1", degree=1.0),
                _aftkd("spatial attention", attention="spatial"),
                _aftkd("channel attention", attention="channel"),
                # Maps of vgg13 and vgg8 have sides of 16, 8, 4 and 4; the default is 4, 2, 2, 2.
                _aftkd("blocks half as wide", block_size=[2, 1, 1, 1]),
                _aftkd("blocks twice as wide", block_size=[8, 4, 4, 4]),
                _aftkd("one block a map", block_size=[16, 8, 4, 4]),
                _aftkd("not centred", center=False),
                _aftkd("fixed weights", loss={"schedule": "fixed"}),
                _aftkd("adaptive against the first window", loss={"schedule": "adaptive", "rate": "first"}),
            ],
            "pairs": ["vgg13_vgg8"],
            "seeds": [0, 1, 2],
        },
    ),
    "smoke": NamedGrid(
        "every method on digits, two pairs, minutes: shows that all of it works here",
        {
            "methods": ["all"],
            "pairs": [
                {"teacher": "resnet20", "student": "resnet8", "seeds": [0, 1]},
                {"name": "vgg13_vgg8", "seeds": [0], "train": {"epochs": 1, "max_steps": 5}},
            ],
            # So few images a step make the usual rate too high for the methods with the largest weights.
            "train": {"batch_size": 16, "lr": 0.01, "epochs": 2, "max_steps": 30},
        },
        data="digits",
    ),
}


def options() -> dict[str, dict[str, Any]]:
    """The named grids as a group of settings for the whole command."""
    return {name: _node(name, grid) for name, grid in NAMED_GRIDS.items()}


def _node(name: str, grid: NamedGrid) -> dict[str, Any]:
    node = {"suite": name, **grid.settings}
    return node if grid.data is None else {"defaults": [{"override /data": grid.data}], **node}
