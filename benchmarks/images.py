"""That all runs of a folder, and all teachers of a store, learn from the same images under a data set's name.

Neither a run's identity nor a teacher's place in the store tells images apart: whoever has others under the same
name, as a part of CIFAR-100 or a data set edited since, would be given results and teachers of the former ones.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from benchmarks.config import DataConfig
from benchmarks.data import DataSet
from benchmarks.errors import RunFailed, UserError
from benchmarks.files import record_at, write_record

FILE = "images.json"


def check_images(key: str, folder: Path, config: DataConfig, dataset: DataSet) -> None:
    """Refuse a folder whose runs or teachers learned from other images.

    Args:
        key: the setting that names the folder, for the message.
        folder: where runs or teachers are.
        config: of the data set.
        dataset: loaded by it.

    Raises:
        UserError: what is there is of other images.
    """
    known = _known(folder).get(_name(config))
    if known and known["images"] != dataset.sha256:
        raise UserError(
            f"{key}={folder} holds what was trained on other images of data={config.name}, those in "
            f"{known['root']}, than {_root(config)} has now.\n"
            f"  Choose another {key}; or delete {folder / FILE} if nothing that learned from those is left."
        )


def note_images(folder: Path, config: DataConfig, dataset: DataSet) -> None:
    """Note which images the runs or teachers in a folder learn from, where that is not known yet."""
    known, name = _known(folder), _name(config)
    if name not in known:
        found = {"images": dataset.sha256, "root": _root(config)}
        with contextlib.suppress(UserError, RunFailed):  # a store that can only be read serves all the same
            write_record(folder / FILE, {"data": known | {name: found}})


def of_other_root(folder: Path, config: DataConfig) -> str | None:
    """Where the images are that a folder's runs learned from, if that is not where they are said to be now."""
    root, said = _known(folder).get(_name(config), {}).get("root"), _root(config)
    # A data set that comes with a package needs no folder.
    return root if root and root != said and os.path.exists(root) and os.path.exists(said) else None


def _known(folder: Path) -> dict[str, Any]:
    return dict(record_at(folder / FILE).get("data", {}))  # none: nothing was trained there yet


def _name(config: DataConfig) -> str:
    """The data set, and what part of it is held out."""
    return f"{config.name}, {config.validation} held out" if config.validation else config.name


def _root(config: DataConfig) -> str:
    return str(Path(config.root).resolve())
