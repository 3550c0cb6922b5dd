"""A classifier on the evaluation split: accuracy, calibration, and how closely it follows its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.data import EvaluationBatches

BINS = 15  # of confidence, as usual (Guo et al. 2017)


@torch.no_grad()
def logits_of(networks: Sequence[nn.Module], batches: EvaluationBatches, precision: torch.autocast) -> list[Tensor]:
    """Each classifier's logits for the evaluation images in their order, `[N, K]`, float32.

    They look at a batch one after the other: it is made ready once, and nothing waits for the device.

    Args:
        networks: from images to logits, in eval mode meanwhile; their modes are put back.
        batches: of the evaluation split.
        precision: the networks' autocast.
    """
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    with precision:
        logits = [[network(batch.images).float() for network in networks] for batch in batches]
    for network, mode in zip(networks, modes, strict=True):
        network.train(mode)
    return [torch.cat(own) for own in zip(*logits, strict=True)]


def figures(logits: Tensor, targets: Tensor, taught: Tensor | None = None) -> dict[str, float]:
    """What logits are worth.

    Args:
        logits: `[N, K]`.
        targets: labels, `[N]`.
        taught: the teacher's logits, `[N, K]`.

    Returns:
        `loss`, the mean cross entropy in nats; `top1` and `top5`, accuracy in percent; `ece`, the expected
        calibration error in percent over 15 bins of equal width (Guo et al., On calibration of modern neural
        networks, ICML 2017, eq. 3). With a teacher also what Stanton et al. call fidelity (Does knowledge
        distillation really work?, NeurIPS 2021): `agreement`, the images in percent to which both give one class,
        and `teacher_kl`, the mean KL(teacher ‖ student) in nats.
    """
    chances, best = F.log_softmax(logits.double(), dim=1), _best(logits)
    hits = best == targets[:, None]
    found = {
        "loss": F.nll_loss(chances, targets),
        "top1": 100 * hits[:, 0].double().mean(),
        "top5": 100 * hits.any(dim=1).double().mean(),
        "ece": 100 * _calibration_error(chances.amax(dim=1).exp(), hits[:, 0]),
    }
    if taught is not None:
        theirs = F.log_softmax(taught.double(), dim=1)
        found["agreement"] = 100 * (best[:, 0] == _best(taught)[:, 0]).double().mean()
        found["teacher_kl"] = F.kl_div(chances, theirs, reduction="batchmean", log_target=True)
    return dict(zip(found, torch.stack([*found.values()]).tolist(), strict=True))


def _best(logits: Tensor) -> Tensor:
    """The five best classes of each row, the best first; bfloat16's logits may be equal."""
    return logits.topk(min(5, logits.shape[1]), dim=1).indices


def _calibration_error(confidence: Tensor, hits: Tensor) -> Tensor:
    """Mean over the samples of how far a bin's mean confidence is from its accuracy."""
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    # A product with one-hot bins adds in one order on every device; adding by index does not.
    gaps = F.one_hot(bins, BINS).double().T @ (confidence - hits.double())
    return gaps.abs().sum() / hits.numel()
