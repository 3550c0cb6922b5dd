"""A CUDA graph's twin on the CPU: the operations of a step, done again on the same memory without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.training.graphs import Graphs, Replay


def memory(tensor: Tensor) -> int:
    """Where a tensor's numbers are, also on the simulated device."""
    return getattr(tensor, "held", tensor).data_ptr()


class Tape(TorchDispatchMode):
    """Notes every operation; `play` does them again, and what they gave then is overwritten by what they give now.

    So, as in a CUDA graph, all that is read is memory, and whatever Python decided stays as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.done.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def play(self) -> None:
        for function, args, kwargs, result in self.done:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and memory(old) != memory(new):
                    old.copy_(new)


class Tapes(Graphs):
    """Records tapes. A CUDA graph does nothing while it is recorded; so a tape's first replay was the recording."""

    def __init__(self) -> None:
        self.recorded, self.played = 0, 0

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        self.recorded += 1
        new = True
        tape = Tape()
        with tape:
            work()

        def replay() -> None:
            nonlocal new
            if not new:
                self.played += 1
                tape.play()
            new = False

        return replay
