"""Schedules of the loss weights: the factor λ_k(t) by which term k's weight is multiplied, for any method.

`adaptive` is this project's construction of AFT-KD's "adaptive loss based on the loss optimisation rate": a
term that falls more slowly than the others gets more weight. With L̄_k(w) the mean of term k over window w, a
60th of the training, r_k = clamp(L̄_k(w−1) / L̄_k(w−2), 0.8, 1.25), smoothed (`LossWeights._update_rate`);
λ = K · softmax(r / τ), floored and renormalised to sum K (`_balance`); 1 in the first two windows. It resembles
dynamic weight averaging (Liu et al., *End-to-end multi-task learning with attention*, CVPR 2019), whose τ = 2
does nothing here: r stays within a few percent of 1. The second form takes the rate against the first window,
L̄_k(w−1) / L̄_k(0), as GradNorm (Chen et al., ICML 2018).

Beside every schedule the distillation terms can warm up: their factors rise linearly from 0 to the schedule's
within the first part of the training. A part and not a number of epochs: a short training has a short warm-up.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from methods.config import InvalidSetting, MethodConfig, Search, acts, check_numbers, coerce_types, option
from methods.registry import get

SLOWEST, FASTEST = 1.25, 0.8  # bounds of a rate from one window to the next


class Schedule(StrEnum):
    default = "default"
    fixed = "fixed"
    linear = "linear"
    cosine = "cosine"
    adaptive = "adaptive"


class Rate(StrEnum):
    previous = "previous"
    first = "first"


def _ramp(config: LossConfig) -> bool:
    return config.schedule in (Schedule.linear, Schedule.cosine)


def _adaptive(config: LossConfig) -> bool:
    return config.schedule == Schedule.adaptive


_RAMP: Any = {"live": _ramp, "live_when": "with loss.schedule=linear or cosine"}
_ADAPTIVE: Any = {"live": _adaptive, "live_when": "with loss.schedule=adaptive"}


@dataclass(frozen=True)
class LossConfig:
    """How the weights of the loss terms change over the training."""

    schedule: Schedule = option(
        Schedule.default,
        "factor on the loss weights over time: default (the method's own choice), fixed, linear, cosine, adaptive",
        search=Search(choices=("fixed", "linear", "cosine", "adaptive")),
    )
    warm_up: float | None = option(
        None,
        "part of the training in which the distillation terms' weights rise from 0; "
        "default: the method's own choice",
        search=Search(0.0, 0.2),
        least=0,
        most=1,
    )
    start: float = option(
        1.0, "factor on the distillation terms at the first step", search=Search(0.0, 2.0), least=0, **_RAMP
    )
    end: float = option(
        0.0, "factor on the distillation terms at the last step", search=Search(0.0, 2.0), least=0, **_RAMP
    )
    temperature: float = option(
        0.1,
        "tau of the softmax over the rates: small reacts strongly",
        source="this project",
        search=Search(0.02, 2.0, log=True),
        above=0,
        **_ADAPTIVE,
    )
    rate: Rate = option(
        Rate.previous,
        "rate of a term: against the previous window or the first",
        source="this project",
        search=Search(choices=tuple(Rate)),
        **_ADAPTIVE,
    )
    windows: int = option(60, "windows in the training", source="this project", least=3, **_ADAPTIVE)
    smoothing: float = option(
        0.5, "part of the last rate that is kept, in [0, 1)", source="this project", least=0, below=1, **_ADAPTIVE
    )
    floor: float = option(
        0.2, "least factor, before renormalisation", source="this project", least=0, below=1, **_ADAPTIVE
    )

    def __post_init__(self) -> None:
        coerce_types(self)

    def resolve(self, method: MethodConfig) -> LossConfig:
        """The schedule that a method gets, checked; what it does not use is back at its default.

        Raises:
            InvalidSetting: a value that cannot work, or a schedule that cannot serve the method.
        """
        schedule = method.schedule if self.schedule == Schedule.default else self.schedule
        warm_up = method.warm_up if self.warm_up is None else self.warm_up
        if set(method.terms) <= {"ce"}:  # nothing to balance: the student alone is the same under every schedule
            schedule, warm_up = Schedule.fixed, 0.0
        resolved = dataclasses.replace(self, schedule=Schedule(schedule), warm_up=float(warm_up))
        dead: Any = {
            field.name: field.default for field in dataclasses.fields(self) if not acts(resolved, field.name)
        }
        resolved = dataclasses.replace(resolved, **dead)
        resolved._check(method)
        return resolved

    def _check(self, method: MethodConfig) -> None:
        check_numbers(self, "loss.")
        signed = sorted(get(method.name).signed_terms & set(method.terms))
        if self.schedule == Schedule.adaptive and signed:
            raise InvalidSetting(
                f"loss.schedule=adaptive needs positive terms, and {', '.join(signed)} of {method.name} can be "
                "zero or below; use fixed, linear or cosine"
            )


class LossWeights(nn.Module):
    """The factors λ of one student's terms, on the device; nothing here reads a device value.

    Call `advance(step)` before each training step, then weigh with `factors`, then `observe` the terms.

    Args:
        config: resolved.
        terms: names of the terms with weight.
        num_steps: steps of the whole training.
    """

    def __init__(self, config: LossConfig, terms: tuple[str, ...], num_steps: int) -> None:
        super().__init__()
        self.config = config
        self.num_steps = num_steps
        self.window = max(1, round(num_steps / config.windows))
        assert config.warm_up is not None  # resolved
        self.warm_steps = round(num_steps * config.warm_up)
        num_terms = len(terms)
        self.factors = nn.Buffer(torch.ones(num_terms))
        self.scheduled = nn.Buffer(torch.ones(num_terms))  # the factors but for the warm-up
        self.distils = nn.Buffer(torch.tensor([term != "ce" for term in terms]), persistent=False)
        self.total: Tensor = nn.Buffer(torch.zeros(num_terms))  # of the open window
        self.first = nn.Buffer(torch.zeros(num_terms))  # means of the first window
        self.previous = nn.Buffer(torch.zeros(num_terms))  # and of the last one
        self.rate = nn.Buffer(torch.ones(num_terms))

    def advance(self, step: int) -> None:
        """Set `factors` for training step `step`, counted from 0; to be called once for each step."""
        if _ramp(self.config):
            self.scheduled.copy_(torch.where(self.distils, self._ramp_factor(step), 1.0))
        elif _adaptive(self.config) and step and step % self.window == 0:
            self._close_window(num_closed=step // self.window)
        elif step >= self.warm_steps:
            return  # nothing has moved
        warmth = min(1.0, (step + 1) / max(1, self.warm_steps))
        self.factors.copy_(self.scheduled * torch.where(self.distils, warmth, 1.0))

    def _ramp_factor(self, step: int) -> float:
        progress = step / max(1, self.num_steps - 1)
        if self.config.schedule == Schedule.cosine:
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.config.start + (self.config.end - self.config.start) * progress

    def observe(self, terms: Tensor) -> None:
        """Take in the step's unweighted terms, `[K]`, detached."""
        if _adaptive(self.config):
            self.total += terms

    def _close_window(self, num_closed: int) -> None:
        mean = self.total / self.window
        if num_closed == 1:
            self.first.copy_(mean)
        else:
            self._update_rate(mean)
            self.scheduled.copy_(self._balance())
        self.previous.copy_(mean)
        self.total.zero_()

    def _update_rate(self, mean: Tensor) -> None:
        # Against the first window a term may fall far, so only growth is bounded there.
        base, least = (self.first, 0.0) if self.config.rate == Rate.first else (self.previous, FASTEST)
        rate = torch.where(base > 0, mean / base, 1.0).clamp(least, SLOWEST)  # a term at 0 stands still
        kept = self.config.smoothing
        self.rate.copy_(kept * self.rate + (1 - kept) * rate)

    def _balance(self) -> Tensor:
        num_terms = self.rate.numel()
        factors = num_terms * torch.softmax(self.rate / self.config.temperature, dim=0)
        factors = factors.clamp_min(self.config.floor)
        return factors * num_terms / factors.sum()
