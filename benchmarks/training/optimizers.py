"""One step down a sum of losses: plain SGD, and DOT, which keeps the task's gradients and distillation's apart.

Zhao, Cui, Song & Liang, *DOT: a distillation-oriented trainer*, ICCV 2023, arXiv:2307.08436. Two momentum buffers
for each parameter: v_task ← g_task + (μ − Δ) v_task and v_distil ← g_distil + (μ + Δ) v_distil; the parameter
moves by both. So the distillation's losses dominate the direction. As in the authors' code weight decay counts to
the task's gradient, and what only one of them reaches, such as a connector, has one buffer with momentum μ and
weight decay.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from benchmarks.config import Optimizer, TrainConfig
from benchmarks.training.autograd import leaves_by_term

Gradients = tuple[Tensor | None, ...]


def laid_out_like(parameter: Tensor, values: Tensor) -> Tensor:
    """Values in the memory layout of their parameter: fused kernels pair the two in the order in which they lie."""
    return values if values.stride() == parameter.stride() else torch.empty_like(parameter).copy_(values)


def _flat(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Tensors as they lie in memory: fused kernels go by that, but would copy gradients in other layouts first."""
    return [each if each.is_contiguous() else each.as_strided((each.numel(),), (1,)) for each in tensors]


class Plain(torch.optim.Optimizer):
    """What both share: torch's fused steps.

    Torch imports its compiler, in seconds, just to keep it out of the methods below, which nothing here compiles.
    """

    def __init__(self, parameters: Iterable[Tensor], train: TrainConfig) -> None:
        super().__init__(parameters, {key: getattr(train, key) for key in ("lr", "momentum", "weight_decay")})

    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but into the buffers that there are: recorded steps read and write them where they lie.

        Where there are none yet, they lie as their parameters do, however they lay where the state was saved.
        """
        own = {parameter: dict(buffers) for parameter, buffers in self.state.items()}
        inspect.unwrap(torch.optim.Optimizer.load_state_dict)(self, state_dict)
        for parameter, buffers in self.state.items():
            there = own.get(parameter, {})
            for name, saved in buffers.items():
                buffers[name] = there[name].copy_(saved) if name in there else laid_out_like(parameter, saved)

    @torch.no_grad()
    def move_by(
        self, steps: Sequence[tuple[Tensor, Tensor]], buffer: str, momentum: float, weight_decay: float
    ) -> None:
        """Move parameters by a buffer of theirs, once it has taken in their gradients.

        Args:
            steps: parameters with gradients, in any layout.
            buffer: its name.
            momentum, weight_decay: of this movement.
        """
        if not steps:
            return
        parameters = [parameter for parameter, _ in steps]
        gradients = [laid_out_like(*step) for step in steps]
        buffers = [self.state[parameter].get(buffer) for parameter in parameters]
        given = [parameters, gradients, buffers]
        if all(each is not None for each in buffers):  # else torch makes them, in the shape of what it is given
            given = [*map(_flat, given)]
        sgd(
            given[0],
            given[1],
            given[2],
            fused=True,
            lr=self.param_groups[0]["lr"],
            momentum=momentum,
            weight_decay=weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if momentum:
            for parameter, moved in zip(parameters, buffers, strict=True):
                self.state[parameter][buffer] = moved


class SGD(Plain):
    """Torch's, with momentum and weight decay."""

    def descend(self, losses: Tensor, weights: Tensor) -> None:
        """One step down the weighted sum of losses, both `[terms]`."""
        self.zero_grad(set_to_none=True)
        (losses * weights).sum().backward()
        self.move()

    def move(self) -> None:
        """Move by the gradients that the parameters have."""
        (group,) = self.param_groups
        steps = [(parameter, parameter.grad) for parameter in group["params"] if parameter.grad is not None]
        self.move_by(steps, "momentum_buffer", group["momentum"], group["weight_decay"])


class DOT(Plain):
    """See above.

    Args:
        parameters: what may learn.
        train: the protocol.
        task: position of the cross entropy among the losses.
    """

    def __init__(self, parameters: Iterable[Tensor], train: TrainConfig, task: int) -> None:
        super().__init__(parameters, train)
        self.task, self.delta = task, train.delta
        self._gradients: tuple[Gradients, Gradients] = ((), ())

    def descend(self, losses: Tensor, weights: Tensor) -> None:
        """One step down the weighted sum of losses, both `[terms]`; the losses as terms were stacked."""
        weighted, parameters = losses * weights, self.param_groups[0]["params"]
        others = torch.cat([weighted[: self.task], weighted[self.task + 1 :]]).sum()
        reached = leaves_by_term(losses)
        by_task, by_others = reached.pop(self.task), set().union(*reached)

        def gradients(loss: Tensor, leaves: set[Tensor], again: bool) -> Gradients:
            found = torch.autograd.grad(loss, parameters, retain_graph=again, allow_unused=True)
            # Behind a stack of losses a part of them gives zeros to what only the others reach.
            return tuple(each if p in leaves else None for each, p in zip(found, parameters, strict=True))

        self._gradients = (
            gradients(weighted[self.task], by_task, again=True),
            gradients(others, by_others, again=False),
        )
        self.move()

    def move(self) -> None:
        """Move by the gradients of the last descent."""
        (group,) = self.param_groups
        parameters, momentum, weight_decay = group["params"], group["momentum"], group["weight_decay"]
        task, distillation, alone = [], [], []
        for parameter, ours, theirs in zip(parameters, *self._gradients, strict=True):
            if ours is not None and theirs is not None:
                task.append((parameter, ours))
                distillation.append((parameter, theirs))
            elif (only := theirs if ours is None else ours) is not None:
                alone.append((parameter, only))
        self.move_by(task, "task", momentum - self.delta, weight_decay)
        self.move_by(distillation, "distillation", momentum + self.delta, 0.0)
        self.move_by(alone, "task", momentum, weight_decay)


def optimizer_of(parameters: Iterable[Tensor], train: TrainConfig, terms: Sequence[str]) -> SGD | DOT:
    """The optimiser of a protocol, for losses of these names."""
    if train.optimizer == Optimizer.dot:
        return DOT(parameters, train, terms.index("ce"))
    return SGD(parameters, train)
