"""From a student's configuration to a member of a cohort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks import data, models
from benchmarks.config import PairConfig
from benchmarks.data import DataInfo
from benchmarks.errors import UserError, require
from benchmarks.streams import global_stream, stream
from benchmarks.training.device import autocast
from benchmarks.training.folding import ready_to_teach
from benchmarks.training.layout import place, suit
from benchmarks.training.member import Member
from benchmarks.training.teaching import Teaching
from benchmarks.variants import Specs, StudentConfig
from methods import Features, FeatureSpec, InvalidSetting, Method, build
from methods.schedules import LossWeights


@cache
def feature_spec(network: str, info: DataInfo) -> FeatureSpec:
    """The shapes that a network shows of a data set's images, read off a forward of noise.

    Raises:
        UserError: they are not those of `Features`.
    """
    with global_stream(0, "probe"), torch.no_grad():
        images = torch.randn(2, *info.shape)
        shown = models.create(network, info.num_classes).eval().features(images, preacts=True)
    _check(shown, f"network {network}", info.num_classes)
    return FeatureSpec.of(shown)


def _check(shown: object, whose: str, num_classes: int) -> None:
    """Refuse what a network shows of two images where it is not of the shapes of `Features`."""
    require(isinstance(shown, Features), f"{whose}: features gives a {type(shown).__name__}, no Features")
    assert isinstance(shown, Features)
    maps = (*shown.stages, *shown.preacts, *([] if shown.final is None else [shown.final]))
    fits = bool(shown.stages) and all(each.ndim == 4 and len(each) == 2 for each in maps)
    require(fits, f"{whose}: its maps are {_shapes(maps)} of 2 images, instead of [2, C, H, W] each")
    fits = shown.embedding.ndim == 2 and shown.logits.shape == (2, num_classes)
    found = _shapes((shown.embedding, shown.logits))
    wanted = f"[2, D], [2, {num_classes}]"
    require(fits, f"{whose}: embedding and logits are {found} of 2 images, instead of {wanted}")


def _shapes(tensors: Iterable[Tensor]) -> str:
    return ", ".join(str(list(each.shape)) for each in tensors) or "none"


def specs_of(pair: PairConfig, info: DataInfo) -> Specs:
    """The shapes that a pair's student and its teacher show of a data set's images."""
    return feature_spec(pair.student, info), feature_spec(pair.teacher, info)


def build_network(name: str, num_classes: int, seed: int, device: torch.device) -> models.Network:
    """A freshly initialised network on a device: the same for every method, device and cohort."""
    with global_stream(seed, "student"):
        network = models.create(name, num_classes)
    return place(network, device)


def frozen(network: models.Network) -> models.Network:
    """A network as a teacher: in eval mode, without gradients."""
    return network.eval().requires_grad_(False)


def build_cohort(
    students: Sequence[StudentConfig],
    specs: Specs,
    targets: Tensor,
    num_steps: int,
    teacher: models.Network | None,
) -> tuple[list[Member], Teaching]:
    """Students, and the teacher made ready, in place, once their methods have looked at it as it is.

    Args:
        students: resolved, of one protocol.
        specs, targets, num_steps: as of `build_member`.
        teacher: frozen, in eval mode; None if no method needs one.
    """
    members = [build_member(student, specs, targets, num_steps, teacher) for student in students]
    train, info = students[0].train, data.INFO[students[0].data.name]
    ready = None if teacher is None else ready_to_teach(teacher, train, info)
    return members, Teaching(ready, autocast(train, targets.device))


def build_method(config: StudentConfig, specs: Specs, targets: Tensor) -> Method[Any]:
    """A student's method, which has not looked at the networks yet; arguments as of `build_member`."""
    # The stream goes by the method, not its label: variants of one method share their connectors' start.
    generator = stream(config.seed, "method", config.method.name, device=targets.device)
    return build(config.method, *specs, specs[0].logits, targets, generator)


def build_member(
    config: StudentConfig,
    specs: Specs,
    targets: Tensor,
    num_steps: int,
    teacher: models.Network | None = None,
) -> Member:
    """A student and its method, each from a stream of its seed, with the schedule of its loss weights.

    Args:
        config: resolved.
        specs: of student and teacher.
        targets: labels of the training set, on the training device.
        num_steps: of the main training.
        teacher: what the method may look at, where there is one.
    """
    network = build_network(config.pair.student, specs[0].logits, config.seed, targets.device)
    suit(network, config.train, data.INFO[config.data.name])
    method = build_method(config, specs, targets)
    if teacher is not None:
        _show_networks(method, teacher, network, config)
    schedule = LossWeights(config.loss, method.terms, num_steps)
    return Member(config.label, network, method, schedule, config.train)


def _show_networks(
    method: Method[Any], teacher: models.Network, student: models.Network, config: StudentConfig
) -> None:
    try:
        method.prepare(teacher, student)
    except InvalidSetting as error:
        refusal = UserError(f"method {method.name} on {config.pair.name}: {error}")
        refusal.student = config.label
        raise refusal from None
