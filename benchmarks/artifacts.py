"""Arrays of a finished student and its teacher on evaluation images, for figures of what was learned.

`artifacts.safetensors` in a run's folder holds (N evaluation images in their order, M and S of them evenly spaced;
K classes, D embedding; each network's arrays behind `student/` or `teacher/`, the latter where the method has one):

    targets             int64 [N]           labels
    */logits            float32 [N, K]
    embedded            int64 [M]           which images have embeddings
    */embedding         float32 [M, D]
    samples             int64 [S]           which images are samples
    images              uint8 [S, 3, H, W]  the samples
    */attention/<l>     float32 [S, H, W]   mean over channels of |F| of stage l, 0 the stem
    */<exhibit>         float32 [S, C, h, w]  what the method compares, as `afb/1`
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data import EvaluationBatches
from benchmarks.models import Network
from benchmarks.tensors import write_tensors
from benchmarks.training.forward import look
from benchmarks.training.member import Classifier, Member
from benchmarks.training.teaching import Teaching
from methods import Features

ARTIFACTS_FILE = "artifacts.safetensors"
NUM_EMBEDDED, NUM_SAMPLES = 2000, 8


class Artifacts:
    """Writes the arrays of a cohort's students.

    Args:
        teaching: who teaches them.
        evaluation: the images.
    """

    def __init__(self, teaching: Teaching, evaluation: EvaluationBatches) -> None:
        self.teacher, self.precision, self.evaluation = teaching.network, teaching.precision, evaluation
        self.embedded = evenly(NUM_EMBEDDED, evaluation.split.targets)
        self.samples = evenly(NUM_SAMPLES, evaluation.split.targets)

    def write(self, folder: Path, member: Member) -> Path:
        """Write a trained student's file, beside its teacher's arrays; returns its path."""
        split = self.evaluation.split
        arrays = {
            "targets": split.targets,
            "embedded": self.embedded,
            "samples": self.samples,
            "images": split.images[self.samples],
            **_named("student", self._outputs(member.classifier)),
        }
        student = self._sample_features(member.network)
        arrays |= _named("student", attention(student))
        if member.has_teacher:
            arrays |= _named("teacher", self._teacher_outputs) | _named("teacher", attention(self._teacher_samples))
            arrays |= self._exhibits(member, student)
        path = folder / ARTIFACTS_FILE
        write_tensors(path, arrays)
        return path

    @cached_property
    def _teacher_outputs(self) -> dict[str, Tensor]:
        assert self.teacher is not None
        return self._outputs(self.teacher)

    @cached_property
    def _teacher_samples(self) -> Features:
        assert self.teacher is not None
        return self._sample_features(self.teacher)

    @torch.no_grad()
    def _outputs(self, network: Network | Classifier) -> dict[str, Tensor]:
        """Logits of all images, embeddings of some."""
        network.eval()
        logits, embeddings = [], []
        for batch in self.evaluation:
            with self.precision:
                features = network.features(batch.images)
            logits.append(features.logits.float())
            embeddings.append(features.embedding.float()[torch.isin(batch.index, self.embedded)])
        return {"logits": torch.cat(logits), "embedding": torch.cat(embeddings)}

    @torch.no_grad()
    def _sample_features(self, network: Network) -> Features:
        network.eval()
        images = self.evaluation.normalise(self.evaluation.split.images[self.samples])
        with self.precision:
            return look(network, images, frozenset({"stages"}))

    @torch.no_grad()
    def _exhibits(self, member: Member, student: Features) -> dict[str, Tensor]:
        exhibits = member.method.eval().exhibits(student, self._teacher_samples)
        return {
            f"{role}/{name}": maps
            for name, pair in exhibits.items()
            for role, maps in zip(("student", "teacher"), pair, strict=True)
        }


def evenly(count: int, targets: Tensor) -> Tensor:
    """`count` positions among the samples, evenly spaced; all where there are no more. On their device."""
    total = targets.numel()
    count = min(count, total)
    return torch.arange(count, device=targets.device) * total // count


def attention(features: Features) -> dict[str, Tensor]:
    """Mean over channels of |F| of every stage: `[S, H, W]`."""
    return {f"attention/{k}": stage.abs().mean(dim=1) for k, stage in enumerate(features.stages)}


def _named(role: str, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{role}/{name}": array for name, array in arrays.items()}
