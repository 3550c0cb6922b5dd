"""torch.compile, where it pays: what lies between a network's convolutions becomes few kernels.

Methods are not compiled: the gradients of some come out wrong, though their losses are right. (torch 2.13 on a CPU:
AFT-KD's, which go through average pooling of maps laid out channels last, are off by more than their length.)
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from benchmarks.errors import first_line
from benchmarks.models import Network
from methods import Features

# Of one function, for all networks and shapes that a process may meet: by itself torch gives up at eight, without a
# word.
MOST_VERSIONS = 100_000
# How far compiled kernels may be from float64, beside twice as far as torch's own: either may round more.
TOLERANCE = 0.01

MAPS = frozenset({"stages", "preacts", "final"})  # the parts of features that are computed for who needs them only


def has_gpu_compiler() -> bool:
    """Whether kernels for a GPU can be compiled here."""
    from torch.utils._triton import has_triton

    return has_triton() and any(map(shutil.which, ("cc", "gcc", "clang")))


def look(network: Network, images: Tensor, needs: frozenset[str], compiles: bool = False) -> Features:
    """What a network shows of images, in float32.

    Args:
        network: computes in the precision around the call.
        images: `[B, 3, H, W]`, normalised.
        needs: parts of the features.
        compiles: by compiled kernels, which are made at the first call, and for every architecture and shape anew.
    """
    return (_compiled() if compiles else _look)(network, images, needs & MAPS)


def _look(network: Network, images: Tensor, needs: frozenset[str]) -> Features:
    return network.features(images, preacts="preacts" in needs).for_loss(needs)


@cache
def _compiled() -> Callable[[Network, Tensor, frozenset[str]], Features]:
    import torch._dynamo  # which takes a second, and most commands do without

    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MOST_VERSIONS
    return torch.compile(_look, dynamic=False)


def objection(network: Network, images: Tensor, needs: frozenset[str], precision: torch.autocast) -> str | None:
    """Why a network had better not compute by compiled kernels; None where they do what torch's own do.

    What it shows, and its weights' gradients under a random mix of that, must not be farther from float64's than by
    torch's own kernels, but for rounding. The network stays as it is.

    Args:
        network: a student, or a teacher, without gradients.
        images, needs: as of `look`.
        precision: the training's autocast.
    """
    whole = torch.autocast(images.device.type, enabled=False)
    try:
        exact = _probe(copy.deepcopy(network).double(), images.double(), needs, whole)
        own = _probe(network, images, needs, precision)
        compiled = _probe(network, images, needs, precision, compiles=True)
    except Exception as error:  # a compiler, its tools and what they make fail in all ways
        return first_line(error)
    for name, truth in exact.items():
        off, usual = (float((each[name] - truth).norm() / truth.norm()) for each in (compiled, own))
        if not off <= 2 * usual + TOLERANCE:
            return f"its {name} are off by {off:.2g} of their length, with torch's own by {usual:.2g}"
    return None


def _probe(
    network: Network, images: Tensor, needs: frozenset[str], precision: torch.autocast, compiles: bool = False
) -> dict[str, Tensor]:
    """What a network shows, part by part, and its gradients in one vector: some are nothing but rounding."""
    network = copy.deepcopy(network)  # batch norms move
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with precision, torch.set_grad_enabled(bool(learning)):
        shown = look(network, images, needs, compiles)
    parts = {"maps": (*shown.stages, *shown.preacts), "embeddings": (shown.embedding,), "logits": (shown.logits,)}
    found = {name: _vector(tensors) for name, tensors in parts.items() if tensors}
    if learning:
        random = torch.Generator().manual_seed(0)
        mix = [torch.randn(part.shape, generator=random).to(part) / part.numel() ** 0.5 for part in shown.tensors()]
        gradients = torch.autograd.grad(shown.tensors(), learning, mix)
        found["gradients"] = _vector(gradients)
    return found


def _vector(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
