"""What a network shows a distillation method: tensors (`Features`) and their shapes (`FeatureSpec`).

Legend: B batch, C channels, H W height and width of a map, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # configurations refer to shapes, and readers of logs use them without torch
    from torch import Tensor

MapShape = tuple[int, int, int]  # C, H, W

BY_STAGE = frozenset({"stages", "preacts"})  # the parts of `Features` that are a map for each stage


def of_stages(needs: frozenset[str], stages: Collection[int]) -> frozenset[str]:
    """`needs` without the maps of other stages: `{"logits", "stages"}` of 2 is `{"logits", "stages.2"}`."""
    return needs - BY_STAGE | {f"{part}.{stage}" for part in needs & BY_STAGE for stage in stages}


def part_of(need: str) -> str:
    """The part of `Features` that a need, of a stage perhaps, belongs to."""
    return need.partition(".")[0]


def joined(needs: frozenset[str]) -> frozenset[str]:
    """`needs` without single stages of parts that are needed whole."""
    return frozenset(need for need in needs if "." not in need or part_of(need) not in needs)


@dataclass(frozen=True)
class Features:
    """One network's view of a batch.

    Attributes:
        stages: maps after each resolution block, stem first, `[B, C_l, H_l, W_l]`; a method is shown empty ones for
            the stages that it does not read (`Method.stages_read`).
        preacts: the same before their last activation; `()` unless asked for.
        embedding: pooled penultimate vector `[B, D]`.
        logits: `[B, K]`.
        final: the map whose mean over positions is the embedding, `[B, D, H, W]`.
    """

    stages: tuple[Tensor, ...]
    preacts: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor
    final: Tensor | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that is shown."""
        final = () if self.final is None else (self.final,)
        return *self.stages, *self.preacts, self.embedding, self.logits, *final

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """Features of changed tensors."""
        return Features(
            stages=tuple(map(change, self.stages)),
            preacts=tuple(map(change, self.preacts)),
            embedding=change(self.embedding),
            logits=change(self.logits),
            final=None if self.final is None else change(self.final),
        )

    def for_loss(self, needs: frozenset[str]) -> Features:
        """The parts that a method declared in `needs`, as float32 for its loss.

        Maps that were not declared are left out, so a method that reads them without saying so fails at its
        first step instead of silently costing every cohort their computation. Where some stages were, as
        `of_stages` names them, those between are empty.
        """
        declared = Features(
            stages=_needed(self.stages, "stages", needs),
            preacts=_needed(self.preacts, "preacts", needs),
            embedding=self.embedding,
            logits=self.logits,
            final=self.final if "final" in needs else None,
        )
        return declared.map(lambda part: part.float())


def _needed(maps: tuple[Tensor, ...], part: str, needs: frozenset[str]) -> tuple[Tensor, ...]:
    if part in needs:
        return maps
    needed = [f"{part}.{stage}" in needs for stage in range(len(maps))]
    if not any(needed):
        return ()
    return tuple(each if shown else each.new_empty(0) for each, shown in zip(maps, needed, strict=True))


@dataclass(frozen=True)
class FeatureSpec:
    """`Features` as shapes: what a method needs to build its connectors.

    Attributes:
        stages: `(C, H, W)` of each stage, stem first.
        preacts: the same of the pre-activations, `()` if they were not asked for.
        embedding: D.
        logits: K.
        signed: for each stage whether its map takes negative values (it is not behind a ReLU).
        final: `(D, H, W)`; None if it was not shown.
    """

    stages: tuple[MapShape, ...]
    preacts: tuple[MapShape, ...]
    embedding: int
    logits: int
    signed: tuple[bool, ...]
    final: MapShape | None = None

    @classmethod
    def of(cls, features: Features) -> FeatureSpec:
        """Read the shapes, and the sign of each stage, off any batch of features."""
        return cls(
            stages=tuple(_map_shape(stage) for stage in features.stages),
            preacts=tuple(_map_shape(preact) for preact in features.preacts),
            embedding=features.embedding.shape[1],
            logits=features.logits.shape[1],
            signed=tuple(bool((stage < 0).any()) for stage in features.stages),
            final=None if features.final is None else _map_shape(features.final),
        )


def _map_shape(feature: Tensor) -> MapShape:
    _, channels, height, width = feature.shape
    return channels, height, width
