"""Digits: scikit-learn's 1,797 real handwritten digits of 8 × 8 pixels, enlarged to 32 × 32 × 3.

Alpaydin & Kaynak, *Optical recognition of handwritten digits*, UCI repository, 1998. It comes with scikit-learn, so
the first run needs no download. A fixed stratified fifth is the test set.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.data.dataset import PARTS, Augmentation, DataInfo, Part, Split
from benchmarks.data.splits import stratified

NUM_CLASSES = 10
SIDE = 32  # as enlarged
# Over the enlarged training images.
MEAN, STD = (0.305,) * 3, (0.324,) * 3
# A mirrored digit is another sign: no flip.
AUGMENTATION = Augmentation(padding=4, flip=False)


def load(part: Part) -> Split:
    """A part of the images."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    targets = torch.from_numpy(digits.target).long()
    index = dict(zip(PARTS, stratified(targets, 0.2), strict=True))[part]
    images = torch.from_numpy(digits.images)[index].float()[:, None] * (255 / 16)
    images = F.interpolate(images, size=SIDE, mode="bilinear", align_corners=False)
    return Split(images.round().clamp(0, 255).byte().expand(-1, 3, -1, -1).contiguous(), targets[index])


INFO = DataInfo(
    summary="1,437 + 360 handwritten digits, minutes on a laptop, no download",
    num_classes=NUM_CLASSES,
    side=SIDE,
    num_train=1437,
    num_test=360,
    epochs=3,
    lr=0.05,
    mean=MEAN,
    std=STD,
    augmentation=AUGMENTATION,
    load=lambda root, cache, part: load(part),
)
