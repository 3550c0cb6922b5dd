"""Tensors in files, as safetensors: whole or not there, and read without executing anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from benchmarks.errors import UserError
from benchmarks.files import write_atomically

CHECKSUM = "checksum"  # in the metadata of our own files: of the tensors and what else is said of them


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name, such as a state dict, independent of the file format they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors with their checksum, atomically."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    stated = {**(metadata or {})}
    stated[CHECKSUM] = _checksum(content, stated)

    def save(temporary: Path) -> None:
        try:
            safetensors.torch.save_file(content, temporary, stated)
        except safetensors.SafetensorError as error:  # no space left, say
            raise OSError(error) from None

    write_atomically(path, save)


def read_tensors(path: Path, advice: str = "") -> dict[str, Tensor]:
    """Read a safetensors file; one of ours must fit its checksum.

    Args:
        path: the file.
        advice: what to do where it is damaged.

    Raises:
        UserError: it is damaged.
    """
    with _readable(path, advice):
        tensors, metadata = safetensors.torch.load_file(path), read_metadata(path)
        stated = metadata.pop(CHECKSUM, None)
        if stated is not None and stated != _checksum(tensors, metadata):
            raise ValueError("its checksum does not match")
    return tensors


def read_tensor(path: Path, name: str) -> Tensor:
    """One tensor of a safetensors file, of which nothing else is read, nor the checksum looked at.

    Raises:
        UserError: it is damaged, or has no such tensor.
    """
    with _readable(path), safetensors.safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


@contextmanager
def _readable(path: Path, advice: str = "") -> Iterator[None]:
    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        hint = f"; {advice}" if advice else ""
        raise UserError(f"{path} is not a readable safetensors file ({error}){hint}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """What a readable safetensors file says of its tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    said = json.dumps(metadata, sort_keys=True) + tensors_sha256(tensors)
    return hashlib.sha256(said.encode()).hexdigest()
