"""What commands leave behind, and the data that they read, for one's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from benchmarks import data, models, teachers
from benchmarks.config import DataConfig, PairConfig, plain
from benchmarks.data import DataSet
from benchmarks.errors import UserError
from benchmarks.files import CARD
from benchmarks.protocol import fill_data
from benchmarks.results import METHOD, STUDENT, RunFolder
from benchmarks.tensors import read_tensors
from benchmarks.training.build import specs_of
from benchmarks.training.member import Classifier
from methods import Method, build, configure


def load_student(folder: str | Path) -> nn.Module:
    """The student of a complete run as it was evaluated: from normalised images to logits, on the CPU.

    Args:
        folder: the run's, `<output>/<pair>/<method>/<id>`.

    Returns:
        a module in eval mode; its `features(images)` are `methods.Features`. Images are normalised,
        `[B, 3, H, W]`, as batches of `EvaluationBatches(load_data(…), device)` have them.

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


def load_teacher(folder: str | Path) -> nn.Module:
    """A teacher of the store, frozen; otherwise as `load_student` gives a student.

    Args:
        folder: the teacher's, `<store>/<network>/<data>-…`, as `python -m benchmarks.teacher list` names it.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = Path(folder)
    num_classes = data.INFO[teachers.read_card(folder / CARD)["data"]].num_classes
    return teachers.read_stored(folder).load(num_classes, torch.device("cpu"))


def load_data(name: str, validation: float = 0.0) -> DataSet:
    """A data set, from where the commands look for it.

    Args:
        name: of the data set.
        validation: part of the training set to be evaluated on instead of the test set, as `data.validation=`.

    Raises:
        UserError: it is missing or damaged.
    """
    config = OmegaConf.create({"data": plain(DataConfig(name=name, validation=validation))})
    fill_data(config)
    return data.load(DataConfig(**config.data))


def _load_method(folder: Path, config: dict[str, Any]) -> Method[Any]:
    """The method that takes part in the prediction."""
    info = data.INFO[config["data"]["name"]]
    specs = specs_of(PairConfig(**config["pair"]), info)
    targets = torch.zeros(1, dtype=torch.int64)
    method = build(configure(**config["method"]), *specs, info.num_classes, targets)
    # Its random numbers served the training, and may be another device's.
    method.load_state_dict(read_tensors(folder / METHOD) | {"_extra_state": method.get_extra_state()})
    return method
