"""Accuracy of a network on the evaluation split."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.data import EvaluationBatches


@torch.no_grad()
def evaluate(network: nn.Module, batches: EvaluationBatches, precision: torch.autocast) -> dict[str, float]:
    """Cross entropy and top-1 and top-5 accuracy in percent of a classifier, from images to logits.

    It is evaluated in eval mode; the mode is put back.
    """
    was_training = network.training
    network.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=batches.split.targets.device)
    for batch in batches:
        with precision:
            logits = network(batch.images)
        logits = logits.float()
        hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.targets[:, None]
        loss = F.cross_entropy(logits, batch.targets, reduction="sum")
        sums += torch.stack([loss.double(), hits[:, 0].sum().double(), hits.any(dim=1).sum().double()])
    network.train(was_training)
    loss, top1, top5 = (sums / len(batches.split)).tolist()
    return {"loss": loss, "top1": 100 * top1, "top5": 100 * top5}
