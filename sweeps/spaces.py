"""What can be searched: each space a function that asks for fields, whose ranges stand on the fields themselves.

A method's name is a space too: all of its own hyper-parameters. For AFT-KD, whose name is a space that was made for
it, that is `aftkd_own`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import UserError, require
from methods import Search, registry, unknown
from methods.aftkd import AFTKDConfig
from sweeps.draft import Base, Draft, Pick, Point, defaults, written

Ask = Callable[[Draft], None]


@dataclass(frozen=True)
class Space:
    """A space.

    Attributes:
        name: on the command line.
        ask: asks a draft for the fields that are searched.
        method: that it is made for; None: any.
        grid: whether all of its points are tried, and nothing that a sampler suggests.
    """

    name: str
    ask: Ask
    method: str | None
    grid: bool = False

    @property
    def summary(self) -> str:
        return (self.ask.__doc__ or "").splitlines()[0].rstrip(".")

    def draft(self, base: Base, pick: Pick) -> Draft:
        """A variant by what `pick` decides."""
        draft = Draft(base, pick)
        self.ask(draft)
        return draft

    def first_points(self, base: Base) -> list[Point]:
        """What a study tries first: the defaults; of a grid, every point that works."""
        return _all_points(self, base) if self.grid else [self.draft(base, defaults).point]


SPACES: dict[str, Space] = {}


def _space(method: str | None = None, grid: bool = False) -> Callable[[Ask], Ask]:
    def add(ask: Ask) -> Ask:
        SPACES[ask.__name__] = Space(ask.__name__, ask, method, grid)
        return ask

    return add


def methods() -> list[str]:
    """Methods that are a space by themselves."""
    return [name for name in registry.available() if name != "none" and name not in SPACES]


def available() -> list[str]:
    """Names of all spaces."""
    return [*SPACES, *methods()]


def find(name: str) -> Space:
    """A space by name.

    Raises:
        UserError: there is none; the message lists them.
    """
    if name in SPACES:
        return SPACES[name]
    if name in methods():
        return Space(name, own, method=name)
    raise UserError(unknown("space", name, available()))


def own_of(method: str) -> Space:
    """The space of a method's own hyper-parameters, which for every method is of the same kind.

    Raises:
        UserError: there is no such method; the message lists them.
    """
    tunable = [name for name in registry.available() if name != "none"]
    require(method in tunable, unknown("method", method, tunable))
    return find(f"{method}_own" if method in SPACES else method)


def own(draft: Draft) -> None:
    """The method's own hyper-parameters."""
    fields = dataclasses.fields(draft.variant.method)
    draft.search(*(field.name for field in fields if field.metadata["search"] is not None))


@_space(method="aftkd")
def aftkd_own(draft: Draft) -> None:
    """AFT-KD's own hyper-parameters, as the name of any other method searches its own."""
    own(draft)


@_space(method="aftkd")
def aftkd_blocks(draft: Draft) -> None:
    """Block size of each stage, which attention enters, and to which degree."""
    draft.search("degree", "attention", "block_size")


@_space()
def loss_schedule(draft: Draft) -> None:
    """Weights of the loss terms and how they change: fixed, linear, cosine or adaptive."""
    draft.search("weights", "loss.schedule", "loss.start", "loss.end", "loss.temperature", "loss.rate")


@_space(method="aftkd")
def aftkd(draft: Draft) -> None:
    """Blocks and loss schedule together: the two that AFT-KD leaves open."""
    aftkd_blocks(draft)
    loss_schedule(draft)


@_space(method="aftkd", grid=True)
def aftkd_ablation(draft: Draft) -> None:
    """A grid: content and its degree, cells of the blocks, centring, adaptive loss."""
    draft.choose("content", "both", "attention", "features")
    draft.choose("degree", 0.25, 0.5, 1.0)
    draft.choose("block_size", *(_blocks_of(draft, cells) for cells in (4, 2, 1)))
    draft.choose("center", True, False)
    draft.choose("loss.schedule", "adaptive", "fixed")


def _blocks_of(draft: Draft, cells: int) -> list[int]:
    """For each stage the smallest blocks that leave at most `cells` along a side."""
    config = draft.base.resolve(draft.base.variant).method
    assert isinstance(config, AFTKDConfig)
    stages = config.valid_block_sizes(*draft.base.specs)
    return [next(size for size in sizes if sizes[-1] // size <= cells) for sizes in stages]


def _all_points(space: Space, base: Base) -> list[Point]:
    """Every point of a grid that works; which parameters there are depends on what was chosen before."""
    points: list[Point] = []
    prefixes: list[list[Any]] = [[]]
    while prefixes:
        walk = _Walk(prefixes.pop(0))
        try:
            draft = space.draft(base, walk)
            base.resolve(draft.variant)
            points.append(draft.point)
        except UserError:
            pass  # the values exclude each other
        prefixes += walk.others
    return points


class _Walk:
    """Picks what a prefix says, then the first choice of each parameter, and notes the other ways to go."""

    def __init__(self, prefix: list[Any]) -> None:
        self.prefix = prefix
        self.taken: list[Any] = []
        self.others: list[list[Any]] = []

    def __call__(self, name: str, search: Search, default: Any) -> Any:
        value, *rest = map(written, search.choices)
        if len(self.taken) < len(self.prefix):
            value = self.prefix[len(self.taken)]
        else:
            self.others += [[*self.taken, other] for other in rest]
        self.taken.append(value)
        return value
