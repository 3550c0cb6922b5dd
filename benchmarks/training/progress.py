"""Where a run is kept while it trains: checkpoints that are whole or not there, by training step."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.errors import UserError, first_line
from benchmarks.files import write_atomically


class Checkpoints:
    """The checkpoints of one run, in its folder.

    Those of a cohort are committed together: each member's is written first, and older ones are deleted only when
    all are there. So after a kill at any moment there is a step that all members have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:08d}.pt"

    def steps(self) -> set[int]:
        """Training steps with a checkpoint; those before the main training are negative."""
        found = (re.fullmatch(r"checkpoint-(-?\d+)\.pt", path.name) for path in self.folder.glob("checkpoint-*"))
        return {int(match[1]) for match in found if match}

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state before training step `step`, counted from 0."""
        write_atomically(self._path(step), lambda path: torch.save(state, path))

    def restore(self, step: int, device: torch.device, load: Callable[[dict[str, Any]], None]) -> None:
        """Hand the state of `step` to `load`, without executing anything in the file.

        Raises:
            UserError: the file is damaged, or not of this run.
        """
        path = self._path(step)
        try:
            load(torch.load(path, map_location=device, weights_only=True))
        except Exception as error:  # damage shows itself in almost any of them
            raise UserError(
                f"{path} is damaged ({first_line(error)}).\n  Delete it to begin this run anew."
            ) from None

    def delete(self, keep: int | None = None) -> None:
        """Delete all checkpoints but that of step `keep`."""
        for step in self.steps() - {keep}:
            self._path(step).unlink(missing_ok=True)
