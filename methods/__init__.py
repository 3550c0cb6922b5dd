"""Distillation methods: what each one computes, their registry and the schedules of their loss weights.

Imports torch and nothing else of this project, so a method can be used in any training loop::

    method = methods.create("aftkd", student_spec, teacher_spec, num_classes=100, targets=labels)
    terms = method(student_features, teacher_features, target, index)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from methods.config import (
    ALONE,
    BrokenMethod,
    DistillConfig,
    InvalidSetting,
    MethodConfig,
    Search,
    SearchEach,
    StageConfig,
    acts,
    dead_settings,
    default_of,
    option,
    require,
    unknown,
)
from methods.features import Features, FeatureSpec

if TYPE_CHECKING:
    from methods.base import Context, Method, Network, Pretraining, Reference
    from methods.registry import available, build, configure, create, get, register

# Imported when first asked for: they need torch, and a reader of logs has use for the settings alone.
_NEED_TORCH = {
    "methods.base": ("Context", "Method", "Network", "Pretraining", "Reference"),
    "methods.registry": ("available", "build", "configure", "create", "get", "register"),
}

__all__ = [
    "ALONE",
    "BrokenMethod",
    "Context",
    "DistillConfig",
    "FeatureSpec",
    "Features",
    "InvalidSetting",
    "Method",
    "MethodConfig",
    "Network",
    "Pretraining",
    "Reference",
    "Search",
    "SearchEach",
    "StageConfig",
    "acts",
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


def __getattr__(name: str) -> Any:
    for module, names in _NEED_TORCH.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'methods' has no attribute '{name}'")
