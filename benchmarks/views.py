"""What a frozen teacher shows of every view of the training images, kept in the teacher store from run to run.

On CIFAR-100 a crop behind a padding of 4 and a flip make 162 images of one, and a teacher in eval mode shows the
same of each whenever it looks. Methods that read its logits or embeddings alone can be told them from a table: a
run of 240 epochs meets about 125 of the 162, and a later one finds most of them there.

No number may change. The last bits of a teacher's outputs can depend on the size of the batch (in float32 on AVX2
they do for three images and fewer), so the table is filled in batches of the run's own size, and the short one at
an epoch's end is computed afresh. They must not depend on an image's place and neighbours in the batch. On AVX2
that holds for every family of networks, but torch does not promise it. So the teacher is tried before anything is
kept: where it fails, `auto` keeps nothing and another choice is an error. The folder's name holds a hash of what
the teacher shows of one batch: where another machine, other libraries or other code compute otherwise, they find
nothing.

`auto` keeps nothing on a GPU: there a look within a replayed step is a fifth of it, and one ahead of it, launched
kernel by kernel, more than all of it. (H100, vgg13 and kd on vgg8: an epoch took twice as long as its steps
without it.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.config import KEPT, RunConfig, Views, plain
from benchmarks.console import warn
from benchmarks.data import Batch, Draw, TrainBatches
from benchmarks.errors import RunFailed, UserError, require
from benchmarks.files import write_record
from benchmarks.hashing import short_hash
from benchmarks.identity import environment
from benchmarks.models import Network
from benchmarks.room import free_disk, free_memory
from benchmarks.tensors import read_tensor, read_tensors, tensors_sha256, write_tensors
from benchmarks.training.device import autocast
from benchmarks.training.member import Member
from benchmarks.training.snapshot import Snapshot
from benchmarks.training.step import union_of_needs, views_of
from benchmarks.training.teaching import Teaching
from benchmarks.training.view_table import ViewTable
from methods import Features

WORTH = 0.25  # of the teacher's looks at images must be spared
SHARE = 0.25  # of the free memory, and of the free disk, is taken at most
FILE_BYTES = 2**28  # of a file at most
VIEWS = "views.json"


def kept_views(
    run: RunConfig,
    members: Sequence[Member],
    teacher: Network,
    sha256: str,
    batches: TrainBatches,
    console: Console,
) -> KeptViews | None:
    """What is to be kept for a cohort; None where `teacher.views` keeps nothing.

    Args:
        run: resolved.
        members: of the cohort.
        teacher: as it teaches.
        sha256: of its weights as it is stored.
        batches: of the training.
        console: where to say what happens.

    Raises:
        UserError: what was asked for cannot be kept.
    """
    views, store = run.teacher.views, Path(run.teacher.root) / run.pair.teacher
    choice = choose(views, union_of_needs(members))
    gain = partial(spared, _draws(run, members, batches), batches.augmentation.num_crops)
    dear = batches.device.type == "cuda" or run.train.compiles  # what is kept, torch's own kernels compute
    hopeless = dear or (gain() < WORTH and not any(store.glob("views-*")))
    if choice == Views.none or (views == Views.auto and hopeless):
        return None
    like = _try(run, choice, teacher, batches)
    if like is None:
        return None
    card = _card(run, choice, sha256, batches, like)
    folder = store / f"views-{short_hash(card, 8)}"
    size = batches.targets.numel() * batches.augmentation.num_crops * _row_bytes(like)
    known = min(1.0, sum(path.stat().st_size for path in folder.glob("*.safetensors")) / size)
    if not _fits(views, size, store, batches.device) or (views == Views.auto and gain(known) < WORTH):
        return None
    return KeptViews(folder, card, ViewTable(like, batches), Snapshot(teacher), console)


def empty_table(run: RunConfig, teacher: Network, batches: TrainBatches) -> ViewTable | None:
    """A table of what `teacher.views` asks for by name, of which nothing is known yet.

    Raises:
        UserError: it cannot be kept.
    """
    if run.teacher.views not in KEPT:
        return None
    like = _try(run, run.teacher.views, teacher, batches)
    assert like is not None  # or an error
    size = batches.targets.numel() * batches.augmentation.num_crops * _row_bytes(like)
    _fits(run.teacher.views, size, Path(run.teacher.root), batches.device)
    return ViewTable(like, batches)


def choose(views: Views, needs: frozenset[str]) -> Views:
    """What to keep for a cohort that reads `needs`; `auto` is the least that has it, or none."""
    allowed = [choice for choice in KEPT if views in (choice, Views.auto)]
    return next((choice for choice in allowed if needs and needs <= KEPT[choice]), Views.none)


def spared(draws: float, num_crops: int, known: float = 0.0) -> float:
    """Part of the teacher's looks that a table spares, on average.

    Of an image seen `draws` times, each time in one of C crops at random, C · (1 − (1 − 1/C)^draws) are met; of
    these the part `known` needs no look.
    """
    met = num_crops * (1 - (1 - 1 / num_crops) ** draws)
    return 1 - met * (1 - known) / draws


def steady(look: Callable[[Batch], Features], batches: TrainBatches) -> Features | None:
    """What a teacher shows of the first images; None if an image's place and neighbours change a bit of it."""
    batch = batches.probe(batches.batch_size)
    assert batch.crop is not None
    half = len(batch.index) // 2
    others = batch.crop.clone()
    others[:half] = 0
    shown = look(batch)
    turned = look(batches.batch(Draw(batch.index.flip(0), others.flip(0))))
    pairs = ((shown.logits, turned.logits), (shown.embedding, turned.embedding))
    same = all(torch.equal(one[half:], other.flip(0)[half:]) for one, other in pairs)
    return shown if same else None


@dataclass(frozen=True)
class KeptViews:
    """A table and its files. A context: the table as earlier runs left it, stored at the end.

    Attributes:
        folder: of the files, in the teacher store.
        card: what they are of.
        table: what is known.
        teacher: who fills it, and must not change.
        console: where to say what happens.
        read: files that the table has.
    """

    folder: Path
    card: dict[str, Any]
    table: ViewTable
    teacher: Snapshot
    console: Console
    read: set[Path] = field(default_factory=set)

    def __enter__(self) -> ViewTable:
        self.load()
        return self.table

    def __exit__(self, *_: object) -> None:
        self.save()

    def load(self) -> None:
        """Read what earlier runs kept; a damaged file is deleted, with a word: its views are looked at again."""
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                parts = read_tensors(path)
            except UserError as error:
                warn(self.console, f"{error}; it is deleted, and its views are computed again")
                with contextlib.suppress(OSError):  # in a store that is only read
                    path.unlink()
            else:
                self.table.restore(parts.pop("rows"), parts)
                self.read.add(path)
        self.console.print(
            f"teacher.views={self.card['keeps']}: in {self.folder}, {100 * self.table.seen:.1f} % of the views seen"
        )

    def save(self) -> None:
        """Keep what is new for later runs; nothing of a teacher that changed. A run does not fail with it.

        What runs beside this one have kept meanwhile is not new: many would fill a disk with the same.
        """
        if self.teacher.changed_entry():
            return
        num_rows = FILE_BYTES // _row_bytes(self.table.tables)
        try:
            for rows, parts in self.table.news(num_rows, list(self._kept_meanwhile())):
                write_record(self.folder / VIEWS, self.card)
                write_tensors(self.folder / f"{uuid4().hex}.safetensors", parts | {"rows": rows})
        except (RunFailed, UserError) as error:
            warn(self.console, f"the teacher's views are not kept: {error}")

    def _kept_meanwhile(self) -> Iterator[Tensor]:
        """Rows of the table that others have kept since it was loaded."""
        for path in {*self.folder.glob("*.safetensors")} - self.read:
            with contextlib.suppress(UserError):  # damaged, or deleted for that
                yield read_tensor(path, "rows")


def _draws(run: RunConfig, members: Sequence[Member], batches: TrainBatches) -> float:
    """How often a run's main training sees an image, on average."""
    num_data = batches.targets.numel()
    images = min(num_data, batches.steps_per_epoch * batches.batch_size)
    upright = [view for view in views_of(members) if view.turns == 0]
    return run.train.epochs * len(upright) * images / num_data


def _try(run: RunConfig, choice: Views, teacher: Network, batches: TrainBatches) -> dict[str, Tensor] | None:
    """What the teacher shows of a batch, as it is to be kept.

    None where it is not steady; an error if views were asked for.
    """
    teaching = Teaching(teacher, autocast(run.train, batches.device))

    def look(batch: Batch) -> Features:
        shown = teaching.shows(KEPT[choice], batch)
        assert shown is not None
        return shown

    shown = steady(look, batches)
    require(
        shown is not None or run.teacher.views == Views.auto,
        f"teacher.views={choice}: on this machine an image's neighbours in the batch change the last bits of what "
        f"{run.pair.teacher} shows of it, so what is kept would change results; leave teacher.views out",
    )
    return None if shown is None else {part: _narrowest(getattr(shown, part)) for part in sorted(KEPT[choice])}


def _narrowest(shown: Tensor) -> Tensor:
    """What a teacher shows, in bfloat16 where it computes in it."""
    narrow = shown.bfloat16()
    return narrow if torch.equal(narrow.float(), shown) else shown


def _row_bytes(parts: Mapping[str, Tensor]) -> int:
    """Bytes of one image's parts."""
    return sum(part[0].nbytes for part in parts.values())


def _card(
    run: RunConfig, choice: Views, sha256: str, batches: TrainBatches, shown: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Everything that the kept outputs depend on."""
    machine = environment(batches.device)
    return {
        "keeps": str(choice),
        "network": run.pair.teacher,
        "teacher": sha256,
        "data": run.data.name,
        "images": tensors_sha256({"images": batches.padded}),
        "augmentation": plain(batches.augmentation),
        "batch_size": batches.batch_size,
        "precision": str(run.train.precision),
        "threads": run.train.threads,
        "device": [machine["device"], machine["cpu_capability"], machine["cuda"], machine["libraries"]["torch"]],
        "shown": tensors_sha256(shown),
    }


def _fits(views: Views, size: int, store: Path, device: torch.device) -> bool:
    """Whether so many bytes may be taken; an error where they were asked for and cannot."""
    free = free_memory(device)
    require(
        views == Views.auto or size <= free,
        f"teacher.views={views} takes {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; leave it out",
    )
    return views != Views.auto or size <= SHARE * min(free, free_disk(store))
