"""Published accuracies, each with its source. Depends on nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """One figure of the literature: top-1 accuracy in percent on a data set's test images."""

    data: str
    teacher: str
    student: str
    method: str  # lower case; "teacher" and "student" are those networks alone
    top1: float
    source: str


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
