"""Trained students, read back from their runs' folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import data, models
from benchmarks.config import PairConfig
from benchmarks.errors import UserError
from benchmarks.results import METHOD, STUDENT, RunFolder
from benchmarks.tensors import read_tensors
from benchmarks.training.build import specs_of
from benchmarks.training.member import Classifier
from methods import Method, build, configure


def load_student(folder: str | Path) -> nn.Module:
    """The student of a complete run as it was evaluated: from normalised images to logits, on the CPU.

    Images are `[B, 3, 32, 32]` in [0, 1], less the `mean` and by the `std` of `benchmarks.data.INFO[NAME]`;
    `benchmarks.data.load(DataConfig(name=NAME)).evaluation` has those of the test set as bytes, and their targets.

    Raises:
        UserError: the run is not complete, or damaged.
    """
    folder = Path(folder)
    result = RunFolder(folder, folder.name, 0).result()
    if result is None:
        raise UserError(f"{folder} holds no complete run")
    config = result["config"]
    network = models.create(config["pair"]["student"], data.INFO[config["data"]["name"]].num_classes)
    network.load_state_dict(read_tensors(folder / STUDENT))
    if (folder / METHOD).exists():
        return Classifier(network, _load_method(folder, config)).eval()
    return network.eval()


def _load_method(folder: Path, config: dict[str, Any]) -> Method[Any]:
    """The method that takes part in the prediction."""
    num_classes = data.INFO[config["data"]["name"]].num_classes
    specs = specs_of(PairConfig(**config["pair"]), num_classes)
    targets = torch.zeros(1, dtype=torch.int64)
    method = build(configure(**config["method"]), *specs, num_classes, targets)
    # Its random numbers served the training, and may be another device's.
    method.load_state_dict(read_tensors(folder / METHOD) | {"_extra_state": method.get_extra_state()})
    return method
