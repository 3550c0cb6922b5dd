"""Distillation methods: what each one computes, their registry and the schedules of their loss weights.

Imports torch and nothing else of this project, so a method can be used in any training loop::

    method = methods.create("aftkd", student_spec, teacher_spec, num_classes=100, targets=labels)
    terms = method(student_features, teacher_features, target, index)
"""

from methods.base import Context, Method, Reference
from methods.config import (
    DistillConfig,
    InvalidSetting,
    MethodConfig,
    Search,
    StageConfig,
    dead_settings,
    default_of,
    option,
    require,
)
from methods.features import Features, FeatureSpec
from methods.registry import available, build, configure, create, get, register, unknown

__all__ = [
    "Context",
    "DistillConfig",
    "FeatureSpec",
    "Features",
    "InvalidSetting",
    "Method",
    "MethodConfig",
    "Reference",
    "Search",
    "StageConfig",
    "available",
    "build",
    "configure",
    "create",
    "dead_settings",
    "default_of",
    "get",
    "option",
    "register",
    "require",
    "unknown",
]
