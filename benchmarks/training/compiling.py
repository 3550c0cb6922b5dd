"""torch.compile, where it pays: what lies between convolutions becomes few kernels.

A network and a method's losses are functions on their own: what comes out wrong in one leaves the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

# Of one function, for all networks, methods and shapes that a process may meet: by itself torch gives up at eight,
# without a word.
MOST_VERSIONS = 100_000

Result = TypeVar("Result")


@dataclass(frozen=True)
class Compiled:
    """What computes by compiled kernels, which are made at the first call, and for everything new again.

    Attributes:
        networks: teacher and students.
        losses: names of the students whose losses do.
    """

    networks: bool = False
    losses: frozenset[str] = frozenset()


NOTHING = Compiled()


def has_gpu_compiler() -> bool:
    """Whether kernels for a GPU can be compiled here."""
    from torch.utils._triton import has_triton

    return has_triton() and any(map(shutil.which, ("cc", "gcc", "clang")))


@cache
def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function whose calls are computed by kernels that torch compiles."""
    import torch._dynamo  # which takes a second, and most commands do without

    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MOST_VERSIONS
    # Kernels that do not wait for each other become one, of AFT-KD's losses every other. Only for GPUs torch can.
    options: dict[str, Any] = {"combo_kernels": True} if torch.cuda.is_available() else {}
    return torch.compile(function, dynamic=False, options=options)
