"""The teacher–student pairs that the field compares on (CRD, ICLR 2020). Depends on nothing."""

from __future__ import annotations

# name: (teacher, student)
PAIRS = {
    "wrn40_2_wrn16_2": ("wrn_40_2", "wrn_16_2"),
    "wrn40_2_wrn40_1": ("wrn_40_2", "wrn_40_1"),
    "resnet56_resnet20": ("resnet56", "resnet20"),
    "resnet110_resnet20": ("resnet110", "resnet20"),
    "resnet110_resnet32": ("resnet110", "resnet32"),
    "resnet32x4_resnet8x4": ("resnet32x4", "resnet8x4"),
    "vgg13_vgg8": ("vgg13", "vgg8"),
    "vgg13_mobilenetv2": ("vgg13", "MobileNetV2"),
    "resnet50_mobilenetv2": ("ResNet50", "MobileNetV2"),
    "resnet50_vgg8": ("ResNet50", "vgg8"),
    "resnet32x4_shufflev1": ("resnet32x4", "ShuffleV1"),
    "resnet32x4_shufflev2": ("resnet32x4", "ShuffleV2"),
    "wrn40_2_shufflev1": ("wrn_40_2", "ShuffleV1"),
}
