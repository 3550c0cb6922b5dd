"""AFT-KD: attention and feature transfer.

Yang, Yu, Sheng & Yang, *Attention and feature transfer based knowledge distillation*, Scientific Reports 13,
18369 (2023), doi 10.1038/s41598-023-43986-y.

The abstract states: features and logits are results of reasoning at different stages of a network, attention
maps symbolise its process; both are transferred, to different degrees; transformation structures turn
features into attentional and feature blocks (AFBs) that hold process and outcome; block operations align
teacher and student and save computation; an adaptive loss based on the loss optimisation rate balances the
attenuation of the different losses.

Everything more concrete is this project's construction, since only the abstract was at hand:

- connector φ: 1×1 convolution and batch norm, from the student's channels to the teacher's; the teacher's side
  has no parameters;
- process: spatial attention S, the mean over channels of |F|^p, of the student's *raw* map (behind the
  connector, the connector would absorb it), and channel attention C, the mean over positions of |F|^p, of φ(F);
  each divided by its own mean, so that it averages 1 (`spatial_attention`, `channel_attention`);
- AFB = pool_g(φ(F) · ((1−d) + d·S) · ((1−d) + d·C)), d the degree, pooled over square blocks to g × g cells
  (`BlockTransfer.blocks`). The residual form matters: in the plain product most of the energy falls on very few
  cells;
- the AFBs are centred by the teacher's running mean, L2-normalised per sample (`BlockTransfer.forward`) and
  compared by squared distance (`distance`);
- the adaptive loss is in `methods.schedules`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import torch
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import Search, SearchEach, StageConfig, acts_with, option, require
from methods.connectors import conv_bn
from methods.features import Features, FeatureSpec, MapShape
from methods.graphs import leave_graph
from methods.kd import kd_term
from methods.maps import magnitude, mean_over, pool_to
from methods.registry import register

EPS = 1e-6
TwoMaps = tuple[Tensor, Tensor]  # of student and teacher, [B, C_s, H, W] and [B, C_t, H', W']


class Content(StrEnum):
    both = "both"
    attention = "attention"
    features = "features"


class Attention(StrEnum):
    both = "both"
    spatial = "spatial"
    channel = "channel"


def spatial_attention(feature: Tensor, p: float, signed: bool = True) -> Tensor:
    """Mean over channels of |F|^p, divided by its mean over positions: `[B, C, H, W]` to `[B, 1, H, W]`."""
    energy = mean_over(magnitude(feature, p, signed), 1)
    return energy / mean_over(energy, 2, 3).clamp_min(EPS)


def channel_attention(feature: Tensor, p: float, signed: bool = True) -> Tensor:
    """Mean over positions of |F|^p, divided by its mean over channels: `[B, C, H, W]` to `[B, C, 1, 1]`."""
    energy = mean_over(magnitude(feature, p, signed), 2, 3)
    return energy / mean_over(energy, 1).clamp_min(EPS)


def grid_of(block_size: int, student_side: int, teacher_side: int) -> int:
    """Cells along one side of an AFB: the smaller map's side over the block size."""
    return min(student_side, teacher_side) // block_size


def default_block_size(student_side: int, teacher_side: int, least_grid: int = 1) -> int:
    """Blocks that leave at most 4 × 4 cells and hold at least 2 × 2 positions where the map allows it.

    `least_grid` asks for so many cells along a side even of a small map.
    """
    side, larger = sorted((student_side, teacher_side))
    grid = max(min(least_grid, side), min(4, side // 2))
    while side % grid or larger % grid:
        grid -= 1
    return side // grid


def valid_block_sizes(student_side: int, teacher_side: int) -> tuple[int, ...]:
    """Sides of square blocks, ascending, that cut both maps of a stage into equal grids."""
    side, larger = sorted((student_side, teacher_side))
    return tuple(size for size in range(1, side + 1) if side % size == 0 and larger % (side // size) == 0)


def _attends(config: AFTKDConfig) -> bool:
    return config.content == Content.attention or (config.content == Content.both and config.degree > 0)


def _has_blocks(config: AFTKDConfig) -> bool:
    return config.content != Content.attention or config.attention != Attention.channel


_WITH_ATTENTION = acts_with("afb", also=_attends, when="(content=attention, or content=both and degree above 0)")


@dataclass(frozen=True)
class AFTKDConfig(StageConfig):
    schedule = "adaptive"

    name: str = option("aftkd", "attention and feature transfer")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 1.0, "afb": 3.0},
        "weight of each loss term",
        source="this project: at afb = 1 its gradient on the student is about that of ce at the start",
        search={"kd": Search(0.1, 10.0, log=True), "afb": Search(0.3, 30.0, log=True)},
    )
    content: Content = option(
        Content.both,
        "what an AFB holds: attention (process), features (result) or both",
        source="abstract: only one of them is unsatisfactory",
        search=Search(choices=tuple(Content)),
        **acts_with("afb"),
    )
    degree: float = option(
        0.5,
        "d in [0, 1]: how much of the process enters beside the result",
        source="this project; abstract: transferred to different degrees",
        search=Search(0.0, 1.0),
        least=0,
        most=1,
        **acts_with("afb", also=lambda config: config.content == Content.both, when="content=both"),
    )
    attention: Attention = option(
        Attention.both,
        "which attention enters: spatial, channel or both",
        source="this project",
        search=Search(choices=tuple(Attention)),
        **_WITH_ATTENTION,
    )
    p: float = option(
        1.0,
        "exponent of the attention",
        source="this project",
        search=Search(0.5, 2.0),
        above=0,
        **_WITH_ATTENTION,
    )
    block_size: list[int] | None = option(
        None,
        "side of the square blocks of each matched stage, a divisor of the smaller map's side; "
        "default: at most 4 x 4 blocks of at least 2 x 2",
        source="this project",
        search=SearchEach(
            lambda config, *specs: [Search(choices=sizes) for sizes in config.valid_block_sizes(*specs)]
        ),
        **acts_with("afb", also=_has_blocks, when="anything but channel attention alone"),
    )
    center: bool = option(
        True,
        "subtract the running mean of the teacher's AFB from both sides",
        source="this project: a constant student output already comes near an uncentred AFB",
        search=Search(choices=(True, False)),
        **acts_with("afb"),
    )

    def valid_block_sizes(self, student: FeatureSpec, teacher: FeatureSpec) -> list[tuple[int, ...]]:
        """The block sizes that fit each matched stage, ascending, of a configuration whose stages are resolved."""
        return [valid_block_sizes(s[1], t[1]) for s, t in self.matched(student, teacher)]

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> AFTKDConfig:
        resolved = super().resolve(student, teacher)
        sides = [(s[1], t[1]) for s, t in resolved.matched(student, teacher)]
        if "afb" not in self.terms or not _has_blocks(self):
            return resolved
        compares_spatial = self.content == Content.attention  # and not by channel alone, which has no blocks
        sizes = self.block_size
        if sizes is None:
            sizes = [default_block_size(*pair, least_grid=2 if compares_spatial else 1) for pair in sides]
        _check_block_sizes(sizes, resolved.valid_block_sizes(student, teacher))
        if compares_spatial:
            require(
                all(size < min(pair) for size, pair in zip(sizes, sides, strict=True)),
                f"block_size={sizes}: spatial attention averages 1, so one block for a whole map says nothing",
            )
        return dataclasses.replace(resolved, block_size=sizes)


def _check_block_sizes(sizes: list[int], valid: list[tuple[int, ...]]) -> None:
    choices = "valid for " + "; ".join(f"stage {k}: {', '.join(map(str, v))}" for k, v in enumerate(valid, start=1))
    require(
        len(sizes) == len(valid),
        f"block_size={sizes} has {len(sizes)} entries for {len(valid)} matched stages; {choices}",
    )
    for size, allowed in zip(sizes, valid, strict=True):
        require(size in allowed, f"block_size={sizes}: {size} does not divide its map; {choices}")


class RunningMean(nn.Module):
    """Mean of an array over batches, each counted alike: all at first, about the last hundred later."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.mean: Tensor = nn.Buffer(torch.zeros(shape))
        self.num_batches: Tensor = nn.Buffer(torch.zeros(()))

    @torch.no_grad()
    def update(self, batch: Tensor) -> None:
        """Take in `batch`, `[B, …]`."""
        self.num_batches += 1
        self.mean += (batch.mean(dim=0) - self.mean) * (1 / self.num_batches).clamp_min(0.01)


def _running_means(shapes: list[MapShape]) -> Sequence[RunningMean]:
    return cast("Sequence[RunningMean]", nn.ModuleList([RunningMean(*shape) for shape in shapes]))


def _take_in(means: Sequence[RunningMean], batches: Sequence[Tensor]) -> None:
    leave_graph()
    for mean, batch in zip(means, batches, strict=True):
        mean.update(batch)


def _unit(maps: Tensor) -> Tensor:
    """Each sample's maps at length 1."""
    return maps / torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True).clamp_min(EPS)


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of unit AFBs, `[B, C, g, g]`, averaged over the batch: a scalar in [0, 4]."""
    return (student - teacher).square().sum() / len(student)


class BlockTransfer(nn.Module):
    """AFBs of one matched stage.

    Args:
        config: resolved.
        student_channels, teacher_channels: C_s and C_t.
        grid: g, cells along one side.
        signed: whether the student's map, and the teacher's, takes negative values.
    """

    def __init__(
        self,
        config: AFTKDConfig,
        student_channels: int,
        teacher_channels: int,
        grid: int,
        signed: tuple[bool, bool],
    ) -> None:
        super().__init__()
        self.config = config
        self.grid, self.signed = grid, signed
        shapes = [(teacher_channels, grid, grid)]
        if config.content == Content.attention:
            shapes = [(1, grid, grid)] * (config.attention != Attention.channel)
            shapes += [(teacher_channels, 1, 1)] * (config.attention != Attention.spatial)
        # Spatial attention alone is read from the raw map: a connector would never learn.
        only_spatial = config.content == Content.attention and config.attention == Attention.spatial
        self.connector = nn.Identity() if only_spatial else conv_bn(student_channels, teacher_channels)
        self.centers = _running_means(shapes if config.center else [])
        self.directions = _running_means(shapes)

    def blocks(self, connected: Tensor, raw: Tensor, connected_signed: bool, raw_signed: bool) -> list[Tensor]:
        """The AFB as it is compared, before centring and normalisation.

        Args:
            connected: φ(F), `[B, C_t, H, W]`.
            raw: F, `[B, C, H, W]`; the same for the teacher.
            connected_signed, raw_signed: whether they take negative values.

        Returns:
            one `[B, C_t, g, g]`; with content=attention, S as `[B, 1, g, g]` and C as `[B, C_t, 1, 1]` instead.
        """
        config = self.config
        spatial = config.attention != Attention.channel
        channel = config.attention != Attention.spatial
        if config.content == Content.attention:
            parts = []
            if spatial:
                parts.append(pool_to(spatial_attention(raw, config.p, raw_signed), self.grid))
            if channel:
                parts.append(channel_attention(connected, config.p, connected_signed))
            return parts
        degree = config.degree if config.content == Content.both else 0.0
        block = connected
        if degree and spatial:
            block = block * (1 - degree + degree * spatial_attention(raw, config.p, raw_signed))
        block = pool_to(block, self.grid)
        if degree and channel:  # constant over positions, so it may act after the pooling
            block = block * (1 - degree + degree * channel_attention(connected, config.p, connected_signed))
        return [block]

    def blocks_of_teacher(self, teacher: Tensor) -> list[Tensor]:
        """Its AFB, of its map `[B, C_t, H', W']`."""
        return self.blocks(teacher, teacher, self.signed[1], self.signed[1])

    def forward(self, student: Tensor, of_teacher: list[Tensor]) -> list[TwoMaps]:
        """Each part of both AFBs as it is compared: centred and of unit length; spatial attention comes first.

        Args:
            student: `[B, C_s, H, W]`.
            of_teacher: what `blocks_of_teacher` gives, which the centres have taken in.
        """
        compared = []
        of_student = self.blocks(self.connector(student), student, True, self.signed[0])
        for part, (ours, theirs) in enumerate(zip(of_student, of_teacher, strict=True)):
            center = self.centers[part].mean if self.config.center else 0.0
            compared.append((_unit(ours - center), _unit(theirs - center)))
        return compared

    def floor(self) -> float:
        """The distance that the best constant student output would reach: 2 − 2‖E[t]‖ over unit vectors t."""
        return sum(2 - 2 * mean.mean.norm().item() for mean in self.directions)


@register(
    "aftkd",
    AFTKDConfig,
    summary="attentional and feature blocks with an adaptive loss, as built here from the abstract",
    reference=Reference(
        "Attention and feature transfer based knowledge distillation",
        "Yang, Yu, Sheng & Yang",
        "Scientific Reports",
        2023,
        "https://doi.org/10.1038/s41598-023-43986-y",
    ),
    knowledge="attention, features",
)
class AFTKD(Method[AFTKDConfig]):
    """Terms `afb`, summed over the matched stages, and `kd`."""

    needs = frozenset({"logits", "stages"})

    def __init__(self, config: AFTKDConfig, context: Context) -> None:
        super().__init__(config, context)
        transfers = nn.ModuleList()
        student, teacher = context.student, context.teacher
        for k, (s, t) in enumerate((config.stages or []) if self.active("afb") else []):
            (channels, side, _), (width, teacher_side, _) = student.stages[s], teacher.stages[t]
            # Channel attention alone has no blocks.
            grid = 1 if config.block_size is None else grid_of(config.block_size[k], side, teacher_side)
            signed = student.signed[s], teacher.signed[t]
            transfers.append(BlockTransfer(config, channels, width, grid, signed))
        self.transfers = cast("Sequence[BlockTransfer]", transfers)

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("afb"):
            pairs = [pair for parts in self._compare(student, teacher) for pair in parts]
            if self.training:
                _take_in([mean for each in self.transfers for mean in each.directions], [pair[1] for pair in pairs])
            terms["afb"] = torch.stack([distance(*pair) for pair in pairs]).sum()
        return terms

    def _compare(self, student: Features, teacher: Features) -> list[list[TwoMaps]]:
        """Both AFBs of each matched stage as they are compared, part by part; in training centres move first."""
        matched = self.config.matched(student, teacher)
        of_teacher = [each.blocks_of_teacher(pair[1]) for each, pair in zip(self.transfers, matched, strict=True)]
        if self.training and self.config.center:
            centers = [mean for each in self.transfers for mean in each.centers]
            _take_in(centers, [part for parts in of_teacher for part in parts])
        stages = zip(self.transfers, matched, of_teacher, strict=True)
        return [transfer(pair[0], parts) for transfer, pair, parts in stages]

    def exhibits(self, student: Features, teacher: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """`afb/1`, `afb/2` …: the AFBs of each matched stage as they are compared, `[B, C, g, g]`.

        Spatial attention, `[B, 1, g, g]`, with content=attention; nothing where channels alone are compared.
        """
        if not self.active("afb") or not _has_blocks(self.config):
            return {}
        return {f"afb/{k}": parts[0] for k, parts in enumerate(self._compare(student, teacher), start=1)}

    def diagnostics(self, terms: Mapping[str, float]) -> dict[str, float]:
        """`afb_floor`, the best constant output's distance, and `afb_relative`, the term over it."""
        if "afb" not in terms:
            return {}
        floor = sum(transfer.floor() for transfer in self.transfers)
        return {"afb_floor": floor} | ({"afb_relative": terms["afb"] / floor} if floor > 0 else {})
