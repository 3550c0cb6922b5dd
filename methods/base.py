"""The contract between a distillation method and the training harness."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from methods.config import MethodConfig, StageConfig, require
from methods.features import Features, FeatureSpec, of_stages

ConfigT = TypeVar("ConfigT", bound=MethodConfig, covariant=True)


@dataclass(frozen=True)
class Reference:
    """The paper of a method."""

    title: str
    authors: str
    venue: str
    year: int
    url: str

    def __str__(self) -> str:
        return f"{self.authors}, {self.title}, {self.venue} {self.year}"


@dataclass(frozen=True)
class Context:
    """What a method is built for.

    Attributes:
        student, teacher: shapes of the two networks' features.
        num_classes: K.
        targets: labels of the training set by sample index, `[N]`, on the training device.
        generator: the method's own stream of random numbers while it trains, on the training device.
    """

    student: FeatureSpec
    teacher: FeatureSpec
    num_classes: int
    targets: Tensor
    generator: torch.Generator


@dataclass(frozen=True)
class Pretraining:
    """A stage before the main training, with losses of its own, without cross entropy.

    Attributes:
        part: its length as a part of the main training's epochs; it lasts one epoch at least.
        terms: names of the losses that `Method.pretrain` gives, whose sum is descended.
        needs: parts of `Features` that `Method.pretrain` reads.
        student: whether the student takes part; one that does not stays as it is.
        lr: learning rate; None: the one that the main training begins with.
        milestones: where it falls as it does at those of the main training, as parts of the stage.
    """

    part: float
    terms: tuple[str, ...]
    needs: frozenset[str]
    student: bool = True
    lr: float | None = None
    milestones: tuple[float, ...] = ()


class Network(Protocol):
    """What a method may ask of a network itself, once, in `Method.prepare`."""

    @property
    def head(self) -> nn.Linear:
        """The layer that makes the logits of the embedding."""
        ...

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        """The batch norm before the last activation of each stage but the stem.

        Raises:
            InvalidSetting: there is none.
        """
        ...


class Method(nn.Module, Generic[ConfigT]):
    """A distillation method: named loss terms from a student's and a teacher's features.

    Its parameters are its trainable connectors, which train in the student's optimiser; its buffers hold
    everything else that it learns or remembers. Both are built from torch's global random numbers, which
    `methods.create` seeds; later ones are drawn from `self.generator`. `self.config` is resolved.
    """

    #: Parts of `Features`, of either network, that `forward` reads, of {"logits", "embedding", "stages", "preacts",
    #: "final"}.
    needs: frozenset[str] = frozenset()
    #: Numbers of the stages of the student and of the teacher, 0 the stem, whose maps `forward` reads; None: it may
    #: read any. Maps of others are empty, since showing them costs passes over memory. Default: the stages that a
    #: `StageConfig` matches.
    stages_read: tuple[Collection[int], Collection[int]] | None = None
    #: Augmented views of each image in a batch. `forward` and the cross entropy get them one behind the other, as a
    #: batch of num_views · B; labels and indices are repeated.
    num_views: int = 1
    #: Whether view k is turned by k quarter turns, counter-clockwise. No image in use is: the cross entropy and the
    #: accuracy in training are of the first view alone.
    turned: bool = False
    #: The stage before the main training, where the paper has one.
    pretraining: Pretraining | None = None
    #: Terms that can be zero or negative, for which a rate of descent means nothing.
    signed_terms: ClassVar[frozenset[str]] = frozenset()

    # Set by the registry.
    name: ClassVar[str]
    config_class: ClassVar[type[MethodConfig]]
    summary: ClassVar[str]
    reference: ClassVar[Reference | None]  # None: no paper's
    knowledge: ClassVar[str]

    def __init__(self, config: ConfigT, context: Context) -> None:
        super().__init__()
        self.config = config
        self.needs = self.needs_of(config)
        self.generator = context.generator
        self.prepared = False
        if self.stages_read is None and isinstance(config, StageConfig) and config.stages is not None:
            self.stages_read = {s for s, _ in config.stages}, {t for _, t in config.stages}

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[str]:
        """What `forward` reads under a configuration: all of `needs`, unless a setting spares a part of it."""
        return cls.needs

    def labelled(self, batch: Tensor) -> Tensor:
        """What has labels of the values `[num_views · B, …]`, one for each image of a batch in its views."""
        return batch.chunk(self.num_views)[0] if self.turned else batch

    def active(self, term: str) -> bool:
        """Whether `term` carries weight; one that does not need not be computed."""
        return term in self.terms

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms with weight, `ce` (the harness's own) included."""
        return self.config.terms

    @property
    def needs_of_both(self) -> tuple[frozenset[str], frozenset[str]]:
        """What is to be shown to it of the student's and of the teacher's features: `needs`, only of `stages_read`.

        Where the epoch may change what it reads, or it takes part in prediction, that is everything.
        """
        if self.stages_read is None or self.heeds_epochs or not self.needs:
            return self.needs, self.needs
        student, teacher = (of_stages(self.needs, stages) for stages in self.stages_read)
        return self.needs if self.predicts else student, teacher or frozenset({"logits"})

    def prepare(self, teacher: Network, student: Network) -> None:
        """Read of the networks themselves what features do not show, before the first step.

        What is kept is a copy in a buffer, which is saved with the run: the teacher stays as it is, bit for bit,
        and nothing of it trains. A method that reads something here calls `super().prepare(teacher, student)`, too,
        and begins `forward` with `self.check_prepared()`.
        """
        self.prepared = True

    def check_prepared(self) -> None:
        """Refuse to compute with what `prepare` would have read.

        Raises:
            InvalidSetting: it was not called.
        """
        require(
            self.prepared,
            f"method {self.name} reads the networks themselves: call method.prepare(teacher, student) once, before "
            "the first batch",
        )

    def epoch(self, e: int) -> None:
        """Told when epoch `e` begins, and again on resuming within it.

        Epochs count from 0; those of a stage before the main training are negative, the last of them −1. What is
        set here, such as a warm-up's factor, has to depend on `e` alone.
        """

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The unweighted loss terms of one batch.

        Args:
            student: the student's features, float32; gradients flow into them.
            teacher: the frozen teacher's features, float32.
            target: labels, int64 `[B]`.
            index: the samples' positions in the training set, int64 `[B]`.

        Returns:
            scalar terms by name, one for each active term but `ce`.
        """
        raise NotImplementedError

    def pretrain(
        self, student: Features | None, teacher: Features, target: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        """The losses of one batch in the stage before the main training; arguments as of `forward`.

        Args:
            student: None where it takes no part.

        Returns:
            scalars, one for each of `pretraining.terms`.
        """
        raise NotImplementedError

    def predict(self, student: Features) -> Features:
        """The student's features with the logits that count, in training and evaluation alike: as they are.

        A method whose modules take part in prediction puts its logits into their place, and what else `forward` is
        to read of them, as a projected embedding: `forward` then gets these features. The trained student is not
        complete without the method.
        """
        return student

    @property
    def predicts(self) -> bool:
        """Whether it takes part in prediction."""
        return type(self).predict is not Method.predict

    @property
    def heeds_epochs(self) -> bool:
        """Whether the epoch changes a step's operations, and not only values that lie on the device."""
        return type(self).epoch is not Method.epoch

    def diagnostics(self, terms: Mapping[str, float]) -> dict[str, float]:
        """Figures worth logging at the end of an epoch, given the epoch's mean `terms`."""
        return {}

    def exhibits(self, student: Features, teacher: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Maps that the method compares, by name the student's and the teacher's, `[B, C, h, w]`, for figures."""
        return {}

    # The generator belongs to the method's state: a resumed run must draw on where it stopped.
    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Any) -> None:
        self.generator.set_state(state.cpu())
