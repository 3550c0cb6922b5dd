"""What a frozen teacher shows of every view of the training images, to look up instead of to compute.

Legend: N images, B batch; a view is an image in one of the augmentation's crops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.data import Batch, Draw, TrainBatches
from methods import Features


class ViewTable:
    """Logits, or logits and embeddings, of every view; not a number where the teacher has not looked yet.

    It is filled between steps, in whole batches: a step only looks up, reads nothing back and has one shape. The
    short batch at an epoch's end is another computation, whose last bits may differ; it is not looked up.

    Args:
        like: tensors `[…, width]` of the type in which each part of the features is kept, "logits" among them.
        batches: of the training, on its device.
    """

    def __init__(self, like: Mapping[str, Tensor], batches: TrainBatches) -> None:
        self.batches, self.parts = batches, frozenset(like)
        self.num_crops = batches.augmentation.num_crops
        num_views = batches.targets.numel() * self.num_crops
        self.tables = {
            name: torch.full((num_views, part.shape[-1]), math.nan, dtype=part.dtype, device=batches.device)
            for name, part in like.items()
        }
        self._looks: list[Tensor] = []  # rows that the teacher filled

    def covers(self, needs: frozenset[str]) -> bool:
        """Whether these parts of the features are kept."""
        return bool(needs) and needs <= self.parts

    def answers(self, needs: frozenset[str], batch: Batch) -> bool:
        """Whether `look_up` can show them of a batch, once its views were seen."""
        return self.covers(needs) and batch.crop is not None and batch.index.numel() == self.batches.batch_size

    def look_up(self, batch: Batch) -> Features:
        """What the teacher showed of the batch's views, in float32; an embedding not kept has no columns."""
        rows = self._rows(batch)
        shown = {name: table.index_select(0, rows).float() for name, table in self.tables.items()}
        logits = shown["logits"]
        return Features((), (), shown.get("embedding", logits.new_empty(len(rows), 0)), logits)

    def unseen(self, draw: Draw) -> Iterator[Batch]:
        """Those of the given views that the teacher has not seen, in whole batches: the last one repeats some."""
        rows = draw.index * self.num_crops + draw.crop
        rows = rows[self.tables["logits"][rows, 0].isnan()]
        size = self.batches.batch_size
        for first in range(0, len(rows), size):
            these = rows[torch.arange(first, first + size, device=rows.device) % len(rows)]
            yield self.batches.batch(Draw(these // self.num_crops, these % self.num_crops))

    def put(self, batch: Batch, shown: Features) -> None:
        """Keep what the teacher shows of a whole batch."""
        rows = self._rows(batch)
        self.restore(rows, {name: getattr(shown, name) for name in self.parts})
        self._looks.append(rows)

    def restore(self, rows: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Keep what was shown of the views at `rows`."""
        for name, table in self.tables.items():
            table[rows.to(table.device)] = parts[name].to(table)

    def news(self, num_rows: int, known: Sequence[Tensor] = ()) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """What was put, as `restore` takes it, in pieces of so many rows; less the rows that are `known`."""
        if self._looks:
            rows = torch.cat(self._looks).unique()
            for each in known:
                rows = rows[~torch.isin(rows, each.to(rows.device))]
            for some in rows.split(num_rows) if len(rows) else ():
                yield some, {name: table[some] for name, table in self.tables.items()}

    @property
    def seen(self) -> float:
        """Part of all views that the teacher has seen."""
        return 1 - self.tables["logits"][:, 0].isnan().float().mean().item()

    def _rows(self, batch: Batch) -> Tensor:
        assert batch.crop is not None
        return batch.index * self.num_crops + batch.crop
