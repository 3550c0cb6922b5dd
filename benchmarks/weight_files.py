"""Weights from files of other projects and our own, read without executing anything in them.

Formats: a safetensors file; torch files holding a plain state dict, RepDistiller's `{"model", …}` with
its `accuracy` or `best_acc`, mdistiller's `{"model": …}`, or one state dict under any other key; each with or
without DataParallel's prefix `module.`.
"""

from __future__ import annotations

import math
import pickle
import re
import shlex
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import models
from benchmarks.errors import UserError, first_line, require
from benchmarks.tensors import read_metadata, read_tensors

# What torch says of a file that holds more than tensors and plain values.
UNSAFE = r"unsupported (global|class)"
# How torch's files begin: as zip archives or, before torch 1.6, as pickles.
BEGINNINGS = (b"PK", b"\x80")
# What our own files say of their weights, in their metadata.
TOP1, SPLIT = "top1", "split"


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights, and what the file claims for them.

    Attributes:
        path: the file.
        state: the state dict.
        claimed_top1: accuracy in percent, None if nothing is claimed.
        split: what it was measured on; other projects' files mean the test set.
    """

    path: Path
    state: dict[str, Tensor]
    claimed_top1: float | None
    split: str = "test"


def read(path: Path) -> Checkpoint:
    """Read a checkpoint in any of the formats.

    Raises:
        UserError: missing, truncated, or of another form.
    """
    require(not path.is_dir(), f"{path} is a folder: name the checkpoint's file in it")
    require(path.is_file(), f"{path}: no such file")
    if path.suffix == ".safetensors":
        state, metadata = read_tensors(path), read_metadata(path)
        return Checkpoint(path, _plain_names(state), _number(metadata.get(TOP1)), metadata.get(SPLIT, "test"))
    content = _unpickle(path)
    claimed = content.get("accuracy", content.get("best_acc")) if isinstance(content, dict) else None
    return Checkpoint(path, _state(content, path), _number(claimed))


def _number(claimed: Any) -> float | None:
    """An accuracy, where what stands in its place is one."""
    try:
        number = float(claimed)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _unpickle(path: Path) -> Any:
    try:
        _check_archive(path)
        with warnings.catch_warnings(action="ignore"):  # torch's, of a pickle's protocol: what matters is an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler meets damage with almost any of them
        if isinstance(error, pickle.UnpicklingError) and re.search(UNSAFE, str(error), re.IGNORECASE):
            raise UserError(_way_out(path)) from None
        if not isinstance(error, OSError) and not path.read_bytes().startswith(BEGINNINGS):
            raise UserError(f"{path} is not a checkpoint: no torch file, and not named .safetensors") from None
        # torch explains every such failure with the safety of pickles, which is beside the point here.
        reason = "it holds no weights" if isinstance(error, pickle.UnpicklingError) else first_line(error)
        raise UserError(f"{path} is damaged or not a checkpoint ({reason})") from None


def _check_archive(path: Path) -> None:
    """torch's files are zip archives, whose checksums torch itself does not look at."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} in it does not match")


def _way_out(path: Path) -> str:
    # What is not a tensor is left out at every depth; which entry is the network's is decided when that is read.
    code = (
        f"import torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False); "
        "M, T = torch.nn.Module, torch.Tensor; "
        "f = lambda c: c if isinstance(c, T) else f(c.state_dict()) if isinstance(c, M) else "
        "{k: f(v) for k, v in c.items() if isinstance(v, (dict, M, T))}; "
        "torch.save(f(c), 'weights.pth')"
    )
    return (
        f"{path} holds Python objects besides tensors, and reading those could run code.\n"
        "  If you trust the file, save its weights alone and use weights.pth instead (a whole network can only be\n"
        "  read where Python finds its code):\n"
        f"  {_command(code)}"
    )


def _command(code: str) -> str:
    """As typed into a shell."""
    return f"python -c {shlex.quote(code)}"


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a torch file's content."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, dict) and not _is_state(content):
        wrapped = [key for key, value in content.items() if _is_state(value)]
        if len(wrapped) > 1:
            raise UserError(_several(wrapped, path))
        content = content[wrapped[0]] if wrapped else content
    if not _is_state(content):
        raise UserError(f"{path} holds no state dict, plain or under a key such as 'model' or 'state_dict'")
    return _plain_names(content)


def _is_state(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _several(keys: Sequence[Any], path: Path) -> str:
    load = f"torch.load({str(path)!r}, map_location='cpu', weights_only=True)"
    code = f"import torch; torch.save({load}[{keys[0]!r}], 'weights.pth')"
    return (
        f"{path} holds {len(keys)} state dicts: {', '.join(map(repr, keys))}.\n"
        f"  Save the one that is the network's and use weights.pth instead; for {keys[0]!r}:\n"
        f"  {_command(code)}"
    )


def _plain_names(state: dict[Any, Tensor]) -> dict[str, Tensor]:
    """Without DataParallel's prefix."""
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_network(name: str, num_classes: int, checkpoint: Checkpoint) -> models.Network:
    """The network `name` with a checkpoint's weights.

    Raises:
        UserError: the weights are another architecture's, for another number of classes, or not finite.
    """
    network = models.create(name, num_classes)
    expected, found = network.state_dict(), dict(checkpoint.state)
    for key in expected:
        if key.endswith(".num_batches_tracked"):  # torch before 0.4.1 had no such entry; nothing here reads it
            found.setdefault(key, torch.zeros_like(expected[key]))
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
    _check_finite(network, checkpoint.path)
    return network


def _check_finite(network: models.Network, path: Path) -> None:
    """A network that diverged would otherwise be noticed in the losses of its students."""
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: its {name} holds values that are not finite (NaN or infinite)")


def _classifier(network: models.Network) -> str:
    """Prefix of its parameters."""
    head = network.head
    return next(name for name, module in network.named_modules() if module is head) + "."
