"""Recording what a device does, to do it again without Python."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.config import TrainConfig
from benchmarks.errors import RunFailed, first_line

Replay = Callable[[], object]

MOST_URGENT = 3  # torch's streams have priorities 0 to -3

# Before it, a recording that fails leaves generators and the allocator behind as if it went on.
SOUND = "2.13"


class Lane:
    """A place for work that may run beside other work. This one is where everything else is."""

    def __enter__(self) -> None:
        """Work here, behind what was begun so far."""

    def __exit__(self, *error: object) -> None:
        """Work where one did before."""

    def join(self) -> None:
        """Let what follows wait for the lane's work."""


class Graphs:
    """Records work on a device."""

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        """Record `work`, which counts as done only when it is replayed.

        Args:
            work: reads and writes the same memory whenever it is done.
            generators: whose random numbers it draws.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        raise NotImplementedError

    def lanes(self, urgency: Sequence[int]) -> list[Lane]:
        """Lanes for parts of the work, which joins all of them in the end.

        Args:
            urgency: of each part: of 0 where it may wait, up to `MOST_URGENT`.
        """
        return [Lane()] * len(urgency)


def cause(error: BaseException) -> BaseException:
    """The error that others followed: a recording that was broken off ends in one of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return error


class StreamLane(Lane):
    """A stream of a CUDA device, whose kernels go before those of streams that are less urgent."""

    def __init__(self, device: torch.device, urgency: int) -> None:
        self.stream = torch.cuda.Stream(device, priority=-urgency)
        self.here = torch.cuda.stream(self.stream)

    def __enter__(self) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        self.here.__enter__()

    def __exit__(self, *error: object) -> None:
        self.here.__exit__(*error)

    def join(self) -> None:
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)


class CudaGraphs(Graphs):
    """Records CUDA graphs, in which a cohort's teacher and students work on streams of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The same for every recording: libraries keep memory for each stream that they have seen.
        self.stream = torch.cuda.Stream(device)
        self.sides = defaultdict[int, list[StreamLane]](list)  # by urgency

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, stream=self.stream):  # left on errors, too
                work()
        except RuntimeError as error:
            if torch.__version__ >= SOUND:
                raise
            raise RunFailed(
                f"a step cannot be recorded as a CUDA graph ({first_line(cause(error))}), and torch before {SOUND} "
                "cannot go on after that; use train.graph=false"
            ) from error
        return graph.replay

    def lanes(self, urgency: Sequence[int]) -> list[Lane]:
        for level, count in Counter(urgency).items():
            sides = self.sides[level]
            sides += [StreamLane(self.device, level) for _ in range(count - len(sides))]
        free = {level: iter(sides) for level, sides in self.sides.items()}
        return [next(free[level]) for level in urgency]


def graphs_of(train: TrainConfig, device: torch.device) -> Graphs | None:
    """How steps are recorded on a device; None where they are not."""
    return CudaGraphs(device) if device.type == "cuda" and train.graph else None


class HostReads(TorchDispatchMode):
    """Notes in `found` the first operation that needs the host, which cannot be recorded, and counts all.

    It reads a value, has a shape that depends on one, or moves a tensor from Python or between devices.
    """

    NEEDING = frozenset(
        {
            "aten::_linalg_check_errors",
            "aten::_local_scalar_dense",
            "aten::_unique2",
            "aten::unique_consecutive",
            "aten::unique_dim",
            "aten::bincount",
            "aten::equal",
            "aten::is_nonzero",
            "aten::lift_fresh",
            "aten::masked_select",
            "aten::nonzero",
            "aten::repeat_interleave",
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: str | None = None
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        name = function.name().split(".")[0]
        indexed = name in ("aten::index", "aten::index_put", "aten::index_put_")
        masked = indexed and any(each is not None and each.dtype == torch.bool for each in args[1])
        result = function(*args, **(kwargs or {}))
        copied = name in ("aten::_to_copy", "aten::copy_")
        moved = copied and len({each.device.type for each in (*args[:2], result) if isinstance(each, Tensor)}) > 1
        if self.found is None and (masked or moved or name in self.NEEDING):
            self.found = f"{name} in {_place(traceback.extract_stack()[:-1])}"
        return result


class WatchedLane(Lane):
    """No lane of its own: counts in `length` the operations that are done in it, as `reads` sees them."""

    def __init__(self, reads: HostReads) -> None:
        self.reads, self.length, self._began = reads, 0, 0

    def __enter__(self) -> None:
        self._began = self.reads.count

    def __exit__(self, *error: object) -> None:
        self.length += self.reads.count - self._began


def _place(calls: Sequence[traceback.FrameSummary]) -> str:
    """The innermost line of these calls that is not torch's; on a GPU gradients are not called from Python."""
    torch_root = str(Path(torch.__file__).parent)
    lines = [f"{Path(call.filename).name}, line {call.lineno}" for call in calls if torch_root not in call.filename]
    return lines[-1] if lines else "the backward pass"
