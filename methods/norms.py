"""Batch norm, as networks and connectors use it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """torch's, with two differences.

    It also takes a single value of each channel, which has no variance, so the running one serves: the last batch
    of an epoch may be one sample, and its map one position. And it does not count its batches, which on a GPU is a
    kernel for each batch norm of a network in every step: `num_batches_tracked`, which nothing reads, stays.
    """

    def forward(self, input: Tensor) -> Tensor:
        assert self.momentum is not None  # the count is for an average over all batches only
        learns = self.training and input.numel() > self.num_features
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, learns, self.momentum, self.eps
        )
