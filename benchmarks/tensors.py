"""Tensors in files, as safetensors: whole or not there, and read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from benchmarks.errors import UserError
from benchmarks.files import write_atomically


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def save(temporary: Path) -> None:
        try:
            safetensors.torch.save_file(content, temporary, metadata)
        except safetensors.SafetensorError as error:  # no space left, say
            raise OSError(error) from None

    write_atomically(path, save)


def read_tensors(path: Path, advice: str = "") -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        advice: what to do where it is damaged.

    Raises:
        UserError: it is damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        hint = f"; {advice}" if advice else ""
        raise UserError(f"{path} is no readable safetensors file ({error}){hint}") from None
