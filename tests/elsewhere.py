"""A device beside the CPU, simulated: what runs there runs on a GPU, as far as places go.

Its tensors hold tensors of the CPU, which do the arithmetic, so that results are the CPU's bit for bit. As on a
GPU, an operation on tensors of both devices fails, unless it copies from one to the other. Torch counts devices
when it first computes a gradient: the device is for a process that begins by importing this, and has no other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

from benchmarks.config import Device

NAME = "elsewhere"
COPYING = ("aten::copy_", "aten::_to_copy")


class Elsewhere(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        place = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=DEVICE, **place)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.held.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Written to a file as if it were on the CPU: where it is read to is said then."""
        return self.held.__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Elsewhere({self.held})"


def _run(function: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation of the device, done on the CPU."""
    name = function.name().split(".")[0]
    ours: dict[int, Elsewhere] = {}
    theirs: list[Tensor] = []
    held_args = _held(args, ours, theirs)
    held_kwargs = {key: _held(each, ours, theirs) for key, each in kwargs.items()}
    if ours and theirs and name not in COPYING:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    target = kwargs.get("device")
    stays = torch.device(target).type == NAME if target else isinstance(args[0], Elsewhere) or name not in COPYING
    if target:
        held_kwargs["device"] = "cpu"
    made = function(*held_args, **held_kwargs)
    return _placed(made, ours) if stays else made


def _held(each: Any, ours: dict[int, Elsewhere], theirs: list[Tensor]) -> Any:
    """What an argument holds, however deep; notes tensors there by what they hold, and those of the CPU."""
    if isinstance(each, Elsewhere):
        ours[id(each.held)] = each
        return each.held
    if isinstance(each, Tensor):
        if each.dim():
            theirs.append(each)
    elif isinstance(each, list | tuple):
        return type(each)([_held(part, ours, theirs) for part in each])
    return each


def _placed(result: Any, ours: dict[int, Elsewhere]) -> Any:
    """A result where it belongs; what an operation in place returns is what it was given."""
    if isinstance(result, Tensor):
        return ours[id(result)] if id(result) in ours else Elsewhere(result)
    return type(result)([_placed(part, ours) for part in result]) if isinstance(result, list | tuple) else result


class Generator(torch.Generator):
    """The CPU's, wherever it is wanted: the device's operations take its numbers."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        return super().__new__(cls, "cpu")


make, read = torch.tensor, torch.load  # which know no devices written in Python


def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
    """`torch.tensor`."""
    made = make(data, **kwargs)
    return made if device is None else made.to(device)


def load(file: Any, *, map_location: Any, **kwargs: Any) -> Any:
    """`torch.load`."""
    content = read(file, map_location="cpu", **kwargs)
    return pytree.tree_map_only(Tensor, lambda each: each.to(map_location), content)


def _register() -> torch.device:
    """Let torch know the device, and commands that would train on the CPU train there."""
    module = type(
        "Module", (backend_registration._DummyBackendModule,), {"get_amp_supported_dtype": lambda self: []}
    )
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=module())
    LIBRARY.fallback(_run, "PrivateUse1")
    # A module's parameters are exchanged as whole objects: their data alone would leave `held` behind.
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.tensor, torch.load, torch.Generator = tensor, load, Generator
    Device.cpu._value_ = NAME
    return torch.device(NAME, 0)


LIBRARY = torch.library.Library("_", "IMPL")  # what it registers is gone with it
DEVICE = _register()
