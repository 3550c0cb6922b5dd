"""Published accuracies, each with its source. Depends on nothing."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Published:
    """One figure of the literature: top-1 accuracy in percent on a data set's test images."""

    data: str
    teacher: str
    student: str
    method: str  # lower case; "teacher" and "student" are those networks alone
    settings: str  # "name=value …": what tells the published form of the method from others; mostly nothing
    top1: float
    source: str

    def is_of(self, config: Mapping[str, Any]) -> bool:
        """Whether it is of the method of a run with this configuration: of this form, and all else as usual.

        What a configuration does not tell, as older ones do not, counts for nothing.
        """
        settings = self.settings.split()
        if not set(config.get("unusual", ())) <= {f"method.{setting}" for setting in settings}:
            return False
        return all(_has(config["method"], *setting.split("=")) for setting in settings)


def _has(method: Mapping[str, Any], name: str, value: str) -> bool:
    """Whether a method's configuration has a value, if it has the setting at all."""
    group, _, term = name.rpartition(".")
    settings = method.get(group, {}) if group else method
    return str(settings.get(term, value)).lower() == value


@cache
def figures() -> tuple[Published, ...]:
    """All published figures that the project knows."""
    path = Path(__file__).with_name("published_cifar100.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                row["dataset"],
                row["teacher"],
                row["student"],
                row["method"].lower(),
                row["settings"],
                float(row["top1"]),
                row["source"],
            )
            for row in csv.DictReader(file)
        )


def find(data: str, teacher: str, student: str, method: str) -> Published | None:
    """The published figure of a method on a pair, the first source's where there are several."""
    wanted = (data, teacher, student, method)
    for figure in figures():
        if (figure.data, figure.teacher, figure.student, figure.method) == wanted:
            return figure
    return None
