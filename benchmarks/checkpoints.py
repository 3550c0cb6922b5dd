"""Weights from files of other projects and our own, read without executing anything in them.

Formats: a safetensors file; torch files holding a plain state dict, RepDistiller's `{"epoch", "model", "best_acc"}`
or mdistiller's `{"model": …}`; each with or without DataParallel's prefix `module.`.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from benchmarks import models
from benchmarks.errors import UserError
from benchmarks.files import read_tensors, write_tensors

CLAIM = "top1"  # in the metadata of our own files


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights, and the top-1 accuracy in percent on the test set that the file claims for them."""

    path: Path
    state: dict[str, Tensor]
    claimed_top1: float | None


def read(path: Path) -> Checkpoint:
    """Read a checkpoint in any of the formats.

    Raises:
        UserError: missing, truncated, or of another form.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return Checkpoint(path, read_tensors(path), _own_claim(path))
    content = _unpickle(path)
    claimed = content.get("best_acc") if isinstance(content, dict) else None
    return Checkpoint(path, _state(content, path), None if claimed is None else float(claimed))


def _own_claim(path: Path) -> float | None:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return float(metadata[CLAIM]) if CLAIM in metadata else None


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise UserError(
                f"{path} holds Python objects beside tensors, and reading those could run code.\n"
                "  Where you trust the file, keep its weights only:\n"
                f"  python -c \"import torch; c = torch.load('{path}', weights_only=False); "
                "torch.save({'model': c.get('model', c)}, 'weights.pth')\""
            ) from None
        raise UserError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a torch file's content."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise UserError(f"{path} holds no state dict, plain or under 'model'")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_network(name: str, num_classes: int, checkpoint: Checkpoint) -> models.Network:
    """The network `name` with a checkpoint's weights.

    Raises:
        UserError: the weights are another architecture's or for another number of classes.
    """
    network = models.create(name, num_classes)
    expected, found = network.state_dict(), checkpoint.state
    missing, surplus = set(expected) - set(found), set(found) - set(expected)
    if missing or surplus:
        examples = ", ".join(sorted(missing | surplus)[:3])
        raise UserError(
            f"{checkpoint.path} is not a {name}: {len(missing)} of its {len(expected)} entries are missing and "
            f"{len(surplus)} are foreign, e.g. {examples}"
        )
    wrong = [key for key in expected if expected[key].shape != found[key].shape]
    if wrong and all(key.startswith(_classifier(network)) for key in wrong):
        raise UserError(
            f"{checkpoint.path} is a {name} for {found[wrong[0]].shape[0]} classes; the data set has {num_classes}"
        )
    if wrong:
        raise UserError(
            f"{checkpoint.path} is not a {name}: {wrong[0]} is {tuple(found[wrong[0]].shape)} instead of "
            f"{tuple(expected[wrong[0]].shape)}"
        )
    network.load_state_dict(found)
    return network


def _classifier(network: models.Network) -> str:
    """Prefix of the last linear layer's parameters."""
    linear = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    return linear[-1] + "."


def write(path: Path, network: models.Network, card: dict[str, Any]) -> None:
    """Write a network's weights as safetensors with its card in the metadata."""
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}
    write_tensors(path, network.state_dict(), metadata)
