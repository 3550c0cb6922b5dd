"""Arrays that runs wrote with `tracking.artifacts=true`; what they hold is told in `benchmarks/artifacts.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from benchmarks import metrics
from benchmarks.errors import UserError

REMEDY = "runs write their arrays with tracking.artifacts=true"


def path_of(run: Any) -> Path | None:
    """A run's file: beside its W&B folder, so that moved directories stay readable, else where it was written.

    Logs exported without paths tell its name alone, and in the current directory that may be another run's.

    Args:
        run: a row of the table of runs.

    Returns:
        None where it wrote none, or where that is not on this machine.
    """
    written = run["summary"].get(metrics.ARTIFACTS)
    if not isinstance(written, str):
        return None
    folder, places = Path(run["folder"]), [Path(written)] if Path(written).is_absolute() else []
    if folder.is_dir():
        places.insert(0, folder.absolute().parent.parent / Path(written).name)
    return next((place for place in places if place.is_file()), None)


class Arrays:
    """One run's arrays, each read when it is asked for.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = safetensors.safe_open(path, framework="np")
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable safetensors file ({error})") from None
        self.names = frozenset(self._file.keys())

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._file.get_tensor(name))

    def stages(self, role: str, kind: str) -> dict[int, np.ndarray]:
        """The maps `role/kind/<stage>` by stage."""
        prefix = f"{role}/{kind}/"
        return {int(name.removeprefix(prefix)): self[name] for name in self.names if name.startswith(prefix)}
