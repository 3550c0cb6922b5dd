"""Whether compiled kernels do what torch's own do: values and gradients of both, against float64's.

Compilers err. By torch 2.13, differences of unit vectors laid out channels last get wrong gradients on a CPU, and
where a graph changes what it reads, its backward pass reads it changed, on any device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.data import UPRIGHT, Batch, View
from benchmarks.errors import first_line
from benchmarks.models import Network
from benchmarks.training.compiling import NOTHING, Compiled
from benchmarks.training.device import begin_peak
from benchmarks.training.forward import judge, look, maps_of
from benchmarks.training.member import Classifier, Member
from benchmarks.training.step import join_features
from benchmarks.training.teaching import Teaching
from methods import Features

# How far compiled kernels may be from float64: so many times as far as torch's own, and a constant. Networks may
# compute in bfloat16; losses are float32, but the little that is rounded may be ill-conditioned.
NETWORKS, LOSSES = (2, 0.01), (10, 0.001)
SMALL = 1e-5  # a part of all losses, or of all gradients, that may be nothing but rounding

Found = dict[str, Tensor]  # vectors by what they are
Look = tuple[str, tuple[View, ...], frozenset[str]]  # who looks, at which views, for what


class Examiner:
    """Finds out, before they are used, which compiled kernels of a cohort may be.

    Args:
        teaching: who teaches it.
        say: told what is computed by torch's own kernels after all, and why.
        compiles: whether compiled kernels are wanted at all.
    """

    def __init__(self, teaching: Teaching, say: Callable[[str], None], compiles: bool) -> None:
        self.teaching, self.say, self.compiles = teaching, say, compiles
        self._networks = compiles  # so far
        self._looks: set[Look] = set()  # all went well
        self._losses: dict[str, bool] = {}  # which students' are right

    def __call__(
        self, members: Sequence[Member], views: Mapping[View, Batch], step: int, needs: frozenset[str]
    ) -> Compiled:
        """What may use compiled kernels in this step: all networks or none, and which students' losses.

        Args:
            members, views, step: as of `learn`.
            needs: what the teacher shows in the step.
        """
        if not self.compiles:
            return NOTHING
        self._networks = self._networks and self._look_well(members, views, step, needs)
        new = [member for member in members if step >= 0 and member.name not in self._losses]
        if new:
            taught = {view: self.teaching.shows(needs, batch, self._networks) for view, batch in views.items()}
            self._losses |= {member.name: self._judges_well(member, views, taught) for member in new}
        return Compiled(self._networks, frozenset(name for name, right in self._losses.items() if right))

    def _look_well(
        self, members: Sequence[Member], views: Mapping[View, Batch], step: int, needs: frozenset[str]
    ) -> bool:
        looks: dict[Look, tuple[Network, torch.autocast]] = {
            ("student", member.views, maps_of(member.own_needs)): (member.network, member.precision)
            for member in members
            if step >= 0 and member.reaches_all
        }
        if self.teaching.network is not None and needs:
            looks["teacher", (UPRIGHT,), maps_of(needs)] = self.teaching.network, self.teaching.precision
        for key in looks.keys() - self._looks:
            who, seen, parts = key
            images, (network, precision) = Batch.join([views[view] for view in seen]).images, looks[key]
            if reason := network_objection(network, images, parts, precision):
                self.say(
                    f"note: the networks compute by torch's own kernels, not compiled ones: the {who}: {reason}"
                )
                return False
            self._looks.add(key)
        return True

    def _judges_well(
        self, member: Member, views: Mapping[View, Batch], taught: Mapping[View, Features | None]
    ) -> bool:
        if member.method.heeds_epochs:  # its losses would be compiled for each epoch anew
            return False
        batch = Batch.join([views[view] for view in member.views])
        before = copy.deepcopy(member.classifier.state_dict())
        compiled = Compiled(self._networks)
        shown = partial(join_features, [taught[view] for view in member.views])
        student, teacher = member.judged(batch.images, shown, compiled)
        member.classifier.load_state_dict(before)  # batch norms have moved
        reason = losses_objection(member.classifier, student, teacher, batch)
        if reason:
            name = member.name
            self.say(f"note: the losses of {name} are computed by torch's own kernels, not compiled ones: {reason}")
        return reason is None


def network_objection(
    network: Network, images: Tensor, needs: frozenset[str], precision: torch.autocast
) -> str | None:
    """Why a network had better not compute by compiled kernels; None where they do what torch's own do.

    What it shows, its weights' gradients under a random mix of that, and its running statistics must not be farther
    from float64's than by torch's own kernels, but for rounding. The network stays as it is.

    Args:
        network: a student, or a teacher, without gradients.
        images, needs: as of `look`.
        precision: the training's autocast.
    """
    whole = torch.autocast(images.device.type, enabled=False)
    return _objection(
        images.device,
        lambda: _shown(copy.deepcopy(network).double(), images.double(), needs, whole),
        lambda: _shown(copy.deepcopy(network), images, needs, precision),
        lambda: _shown(copy.deepcopy(network), images, needs, precision, compiles=True),
        NETWORKS,
    )


def losses_objection(
    classifier: Classifier, student: Features, teacher: Features | None, batch: Batch
) -> str | None:
    """Why a method's losses had better not be computed by compiled kernels; None where they are right.

    Asked of the losses, of their gradients for features and connectors, and of what the method remembers.

    Its first step is not the one that is examined: a memory that holds nothing shows little.

    Args:
        classifier: the student, with its method.
        student, teacher: what they show of the batch, of the parts that the method needs.
        batch: in as many views as the method asks for.
    """
    return _objection(
        batch.targets.device,
        lambda: _judged(classifier, student, teacher, batch, torch.float64),
        lambda: _judged(classifier, student, teacher, batch),
        lambda: _judged(classifier, student, teacher, batch, compiles=True),
        LOSSES,
    )


def _objection(
    device: torch.device,
    exact: Callable[[], Found],
    own: Callable[[], Found],
    compiled: Callable[[], Found],
    tolerance: tuple[int, float],
) -> str | None:
    try:
        truth, usual, found = exact(), own(), compiled()
    except Exception as error:  # a compiler, its tools and what they make fail in all ways
        return _cause(error)
    finally:
        begin_peak(device)  # a training's memory is not that of float64
    times, constant = tolerance
    for name in truth:
        off, least = (_distance(each[name], truth[name]) for each in (found, usual))
        if not off <= times * least + constant:
            return f"{name}: off by {off:.2g} of the length, with torch's own by {least:.2g}"
    return None


def _cause(error: Exception) -> str:
    """What went wrong, in a line. Where that announces another error's traceback, it is the last of these."""
    told, advice, _ = str(error).partition("\n\nSet TORCHDYNAMO_VERBOSE")
    lines = told.partition("\n\nWhile executing")[0].strip().splitlines()
    return lines[-1].strip() if advice and lines[0].endswith(":") else first_line(error)


def _shown(
    network: Network, images: Tensor, needs: frozenset[str], precision: torch.autocast, compiles: bool = False
) -> Found:
    """What a copy of a network, whose statistics move, shows part by part, and all gradients, some but rounding."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with precision, torch.set_grad_enabled(bool(learning)):
        shown = look(network, images, needs, compiles)
    maps = (*shown.stages, *shown.preacts) + (() if shown.final is None else (shown.final,))
    parts = {"maps": maps, "embeddings": (shown.embedding,), "logits": (shown.logits,)}
    found = {name: _vector(tensors) for name, tensors in parts.items() if tensors}
    if learning:
        random = torch.Generator().manual_seed(0)
        whole = [part for part in shown.tensors() if part.numel()]
        mix = [torch.randn(part.shape, generator=random).to(part) / part.numel() ** 0.5 for part in whole]
        found["gradients"] = _vector(torch.autograd.grad(whole, learning, mix))
        found["running statistics"] = _vector(_memories(network).values())
    return found


def _judged(
    classifier: Classifier,
    student: Features,
    teacher: Features | None,
    batch: Batch,
    dtype: torch.dtype = torch.float32,
    compiles: bool = False,
) -> Found:
    """Weighted losses, their gradients, and what the method remembers."""
    classifier = copy.deepcopy(classifier).to(dtype)  # memories move; and some methods read the network's weights
    method: Any = classifier.method
    teacher = teacher and teacher.map(lambda part: part.to(dtype))
    student = student.map(lambda part: part.detach().to(dtype).requires_grad_())
    with torch.no_grad():  # a step before, of other features, which torch's own kernels take
        others = student.map(_half), teacher and teacher.map(_half)
        judge(method, *others, batch.targets, batch.index)
    losses = judge(method, student, teacher, batch.targets, batch.index, compiles)
    losses = losses * losses.new_tensor([method.config.weights[term] for term in method.terms])
    shown, learning = student.tensors(), [each for each in classifier.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(losses.sum(), [*shown, *learning], allow_unused=True)
    reached = losses.new_tensor([each is not None for each in gradients])
    whole = [
        torch.zeros_like(x) if each is None else each
        for each, x in zip(gradients, [*shown, *learning], strict=True)
    ]
    return {
        **_apart({f"loss {term}": loss[None] for term, loss in zip(method.terms, losses, strict=True)}),
        **_apart({f"gradients for feature {k}": gradient for k, gradient in enumerate(whole[: len(shown)])}),
        "gradients for connectors": _vector(whole[len(shown) :]),
        "what has gradients": reached,
        **{f"memory {name}": _vector([memory]) for name, memory in _memories(method).items()},
    }


def _apart(parts: Mapping[str, Tensor]) -> Found:
    """Each in a vector of its own, with one more element, beside which what may be rounding is nothing."""
    vectors = {name: _vector([part]) for name, part in parts.items()}
    least = SMALL * _vector(vectors.values()).norm()
    return {name: torch.cat([vector, least[None]]) for name, vector in vectors.items()}


def _memories(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


def _half(part: Tensor) -> Tensor:
    return part / 2


def _vector(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _distance(found: Tensor, truth: Tensor) -> float:
    """In lengths of the truth; where that is nothing, so must be what was found."""
    return float((found - truth).norm() / truth.norm().clamp_min(torch.finfo(truth.dtype).tiny))
