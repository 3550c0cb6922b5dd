"""`python tests/faults`: tries faults and prints a table: how many were tried, survived, and results lost.

    python tests/faults                          all of it: minutes
    python tests/faults kills.run=3 damage=10    so many kills of a run, and flipped bits of each kind of file
    python tests/faults only=kills               kills or damage alone

Exit status 1 where a result was lost.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from faults.damage import SUBJECTS, try_damages  # noqa: E402
from faults.kills import try_kills  # noqa: E402
from faults.workloads import WORKLOADS  # noqa: E402

KILLS = {"run": 15, "suite": 15, "teacher": 5, "cache": 20, "sweep": 18, "journal": 6}
FLIPS = 60
SEED = 0

Row = tuple[str, int, int, int, list[str]]  # fault, tried, survived, results lost, what went wrong


def kills(folder: Path, wanted: dict[str, int]) -> Iterator[Row]:
    """A row for each workload that is killed."""
    for name, count in wanted.items():
        if count:
            record = try_kills(WORKLOADS[name], folder / name, count, SEED)
            yield f"SIGKILL: {name}", record.tried, record.survived, record.lost, record.notes


def damage(folder: Path, flips: int) -> Iterator[Row]:
    """A row for each kind of file that is damaged."""
    for k, (name, make) in enumerate(SUBJECTS.items()):
        place = folder / f"damage{k}"
        place.mkdir()
        outcome = try_damages(make(place), flips)
        wrong = outcome.wrong
        yield f"damaged: {name}", outcome.tried, outcome.tried - len(wrong), len(wrong), wrong


def main(words: Sequence[str]) -> int:
    """The command."""
    given = dict(word.split("=", 1) for word in words)
    only, flips = given.pop("only", ""), int(given.pop("damage", FLIPS))
    wanted = KILLS | {key.removeprefix("kills."): int(count) for key, count in given.items()}
    torch.set_num_threads(1)
    print(f"{'fault':30} {'tried':>7} {'survived':>9} {'results lost':>13}")
    total, folder = [0, 0, 0], Path(tempfile.mkdtemp(prefix="faults-"))
    for part, rows in (("damage", damage(folder, flips)), ("kills", kills(folder, wanted))):
        for name, *counts, notes in rows if only in ("", part) else ():
            print(f"{name:30} {counts[0]:7} {counts[1]:9} {counts[2]:13}", flush=True)
            print("".join(f"    {note}\n" for note in notes), end="")
            total = [sum(pair) for pair in zip(total, counts, strict=True)]
    print(f"{'all':30} {total[0]:7} {total[1]:9} {total[2]:13}")
    if not total[2]:  # else it shows what was lost
        shutil.rmtree(folder)
    return 1 if total[2] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
