"""Teachers: found in the store, given as a checkpoint, or trained here once for every student that follows.

The store keeps a teacher by network, data set, split, protocol and seed, as `teacher.safetensors` and `card.json`,
in `<root>/<network>/<data>-<epochs>ep-seed<seed>-<hash>/`. A teacher trained for one epoch, or on a part of the
training set, never passes for another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import data, models, weight_files
from benchmarks.config import DataConfig, PairConfig, RunConfig, TeacherConfig, TrainConfig, plain
from benchmarks.errors import UserError, require
from benchmarks.files import CARD, read_record, write_record
from benchmarks.hashing import short_hash
from benchmarks.identity import code_version, environment, identity
from benchmarks.protocol import default_lr, scaled_milestones
from benchmarks.results import METHOD, STUDENT
from benchmarks.tensors import read_tensors, tensors_sha256, write_tensors
from benchmarks.training.build import frozen
from benchmarks.training.layout import place
from benchmarks.variants import StudentConfig
from benchmarks.weight_files import Checkpoint
from benchmarks.words import counted
from methods import ALONE, configure
from methods.schedules import LossConfig

# A teacher whose accuracy is lower by more than what is claimed for it is another one, or is fed otherwise.
TOLERANCE = 1.0  # points of top-1
AT_CHANCE = 2.0  # times what guessing reaches: a teacher up to there has learned about nothing
# Training settings that make another teacher; what it runs on does not.
PROTOCOL_FIELDS = (
    "epochs",
    "batch_size",
    "lr",
    "momentum",
    "weight_decay",
    "schedule",
    "milestones",
    "decay",
    "max_steps",
)

WEIGHTS = "teacher.safetensors"  # beside its card
# What every card must hold.
CARD_KEYS = ("network", "data", "validation", "split", "top1", "sha256", "source", "seed", "protocol")


@dataclass(frozen=True)
class Teacher:
    """A trained teacher.

    Attributes:
        network: its name.
        checkpoint: its weights and the accuracy claimed for them.
        sha256: of its weights.
        source: where it was found, for people.
    """

    network: str
    checkpoint: Checkpoint
    sha256: str
    source: str

    def load(self, num_classes: int, device: torch.device) -> models.Network:
        """The frozen network, in eval mode."""
        network = weight_files.load_network(self.network, num_classes, self.checkpoint)
        return place(frozen(network), device)


@dataclass(frozen=True)
class TeacherPlan:
    """Which teacher is wanted, and how it is trained where there is none: by cross entropy, under the protocol.

    Attributes:
        network: its name.
        data: data set and split.
        seed: of its initialisation and batches.
        train: its protocol.
        root: the store.
    """

    network: str
    data: DataConfig
    seed: int
    train: TrainConfig
    root: Path

    @classmethod
    def of(cls, run: RunConfig) -> TeacherPlan:
        """The teacher of a run."""
        train = dataclasses.replace(run.train, epochs=run.teacher.epochs)
        return cls(run.pair.teacher, run.data, run.teacher.seed, train, Path(run.teacher.root)).untuned()

    def untuned(self) -> TeacherPlan:
        """The plan under the common protocol: with what makes trials short, and nothing that tunes a student."""
        tuning = ("batch_size", "momentum", "weight_decay", "optimizer", "delta", "schedule", "decay")
        train = dataclasses.replace(
            self.train,
            lr=default_lr(self.data.name, self.network),
            milestones=scaled_milestones(self.train.epochs),
            **{name: getattr(TrainConfig, name) for name in tuning},
        )
        return dataclasses.replace(self, train=train)

    def taken_by(self) -> str:
        """The settings by which runs take this teacher; none where they look for it by themselves."""
        if self.folder != self.untuned().folder:
            return f"teacher.checkpoint={self.folder / WEIGHTS}"
        of_itself = {
            "teacher.epochs": (self.train.epochs, data.INFO[self.data.name].epochs),
            "teacher.seed": (self.seed, TeacherConfig.seed),
            "train.max_steps": (self.train.max_steps, TrainConfig.max_steps),
            "data.validation": (self.data.validation, DataConfig.validation),
        }
        return " ".join(f"{key}={value}" for key, (value, default) in of_itself.items() if value != default)

    @property
    def config(self) -> StudentConfig:
        """Its training as that of a student without distillation."""
        none = configure(ALONE, label="teacher")
        pair = PairConfig(self.network, self.network, self.network)
        return StudentConfig(none, pair, self.data, self.seed, self.train, LossConfig().resolve(none))

    @property
    def folder(self) -> Path:
        """Its place in the store."""
        key = {
            "network": self.network,
            "data": self.data.name,
            "validation": self.data.validation,
            "seed": self.seed,
            "protocol": _protocol(self.train),
        }
        name = f"{self.data.name}-{self.train.epochs}ep-seed{self.seed}-{short_hash(key, 8)}"
        return self.root / self.network / name


def _protocol(train: TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in identity(train).items() if name in PROTOCOL_FIELDS}


def remarks(run: RunConfig) -> Iterator[str]:
    """What to say of the teacher that is trained here for a run: of fewer epochs, or its student's twin."""
    if run.teacher.checkpoint is not None:
        return
    taught, learn = run.teacher.epochs, run.train.epochs
    if taught < learn:
        yield (
            f"the teacher is one of {counted(taught, 'epoch')}, its students train for {learn}; "
            f"teacher.epochs={learn} takes one of as many"
        )
    if run.pair.teacher == run.pair.student and run.teacher.seed == run.seed:
        yield (
            f"teacher and students, of one network and seed {run.seed}, begin with the same weights and see the "
            f"same batches; teacher.seed={run.seed + 1} takes another teacher"
        )


def of_run(run: RunConfig) -> Teacher | None:
    """The teacher that a run is given, or the store's; None if it is still to be trained.

    Raises:
        UserError: it is another architecture, cannot be read, or is damaged.
    """
    if run.teacher.checkpoint is None:
        return find(TeacherPlan.of(run))
    return given(run.pair.teacher, run.teacher.checkpoint, data.INFO[run.data.name].num_classes)


def given(network: str, path: str, num_classes: int, key: str = "teacher.checkpoint") -> Teacher:
    """The teacher in a checkpoint of the user's.

    Args:
        network: what it is said to be.
        path: of the checkpoint.
        num_classes: of the data set.
        key: the setting that names the checkpoint, for messages.

    Raises:
        UserError: it cannot be read, is another architecture, or a student that is not complete by itself.
    """
    try:
        checkpoint = weight_files.read(Path(path))
        beside = checkpoint.path.with_name(METHOD)
        alone = checkpoint.path.name != STUDENT or not beside.exists()
        require(alone, f"{path} is a student that predicts through its method ({beside}): it cannot teach")
        loaded = weight_files.load_network(network, num_classes, checkpoint)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    # Of the network, not of the file, which may lack what nothing reads, or be in half precision: the same teacher
    # in the store has the same.
    return Teacher(network, checkpoint, tensors_sha256(loaded.state_dict()), path)


def find(plan: TeacherPlan) -> Teacher | None:
    """The store's teacher; None if it is still to be trained.

    Raises:
        UserError: what the store holds is damaged, or closed to this user.
    """
    return read_stored(plan.folder) if is_stored(plan) else None


def is_stored(plan: TeacherPlan) -> bool:
    """Whether the store has the teacher.

    Raises:
        UserError: its folder is closed to this user.
    """
    try:
        return (plan.folder / CARD).is_file()
    except OSError as error:
        raise UserError(f"{plan.folder} cannot be read: {error.strerror}") from None


def read_stored(folder: Path) -> Teacher:
    """The teacher in a folder of a store.

    Raises:
        UserError: there is none, or it is damaged.
    """
    card, path = read_card(folder / CARD), folder / WEIGHTS
    checkpoint = Checkpoint(
        path, read_tensors(path, f"delete {folder} to train it again"), card["top1"], card["split"]
    )
    sha256 = tensors_sha256(checkpoint.state)
    if sha256 != card["sha256"]:
        raise UserError(
            f"{path} is not what its card describes (its SHA-256 differs); delete {folder} to train it again"
        )
    return Teacher(card["network"], checkpoint, sha256, str(folder))


def read_card(path: Path) -> dict[str, Any]:
    """A teacher's card.

    Raises:
        UserError: it is damaged.
    """
    try:
        card = read_record(path)
        missing = [key for key in CARD_KEYS if key not in card]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        if not 0 <= float(card["top1"]) <= 100:
            raise ValueError(f"top1 = {card['top1']}")
        return card | {"top1": float(card["top1"])}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete its folder to train the teacher again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def store(
    plan: TeacherPlan, network: models.Network, top1: float, source: str, history: list[dict[str, float]]
) -> Teacher:
    """Put a teacher into the store, and return it.

    Args:
        plan: which one it is.
        network: its weights.
        top1: its accuracy on what its data set is evaluated on, in percent.
        source: where it comes from, for people.
        history: its epochs, where it was trained here.
    """
    card = {
        "network": plan.network,
        "data": plan.data.name,
        "validation": plan.data.validation,
        "split": plan.data.split,
        "num_classes": data.INFO[plan.data.name].num_classes,
        "top1": top1,
        "sha256": tensors_sha256(network.state_dict()),
        "source": source,
        "seed": plan.seed,
        "protocol": _protocol(plan.train),
        "precision": plain(plan.train.precision),
        "code": code_version(),
        "environment": environment(next(network.parameters()).device),
        "history": history,
    }
    # The card comes last, that of a teacher to be replaced goes first: a folder with a card is whole.
    discard(plan)
    claim = {"network": plan.network, weight_files.TOP1: str(top1), weight_files.SPLIT: plan.data.split}
    write_tensors(plan.folder / WEIGHTS, network.state_dict(), claim)
    write_record(plan.folder / CARD, card)
    teacher = find(plan)
    assert teacher is not None
    return teacher


def discard(plan: TeacherPlan) -> None:
    """Take a teacher out of the store, its card first."""
    (plan.folder / CARD).unlink(missing_ok=True)
    (plan.folder / WEIGHTS).unlink(missing_ok=True)


def check_accuracy(teacher: Teacher, top1: float, split: str) -> None:
    """Stop a teacher that is far from what is said of it.

    Raises:
        UserError: top-1 is below the claimed one by more than `TOLERANCE`.
    """
    claimed = teacher.checkpoint.claimed_top1
    if claimed is None or split != teacher.checkpoint.split:
        return  # nothing to compare with
    if not top1 >= claimed - TOLERANCE:  # not a number is far, too
        raise UserError(
            f"the teacher {teacher.source} reaches {top1:.2f} % top-1, far from the {claimed:.2f} % claimed for "
            "it: wrong data set, class order or file?"
        )


def at_chance(teacher: Teacher, top1: float, num_classes: int) -> str | None:
    """What to say of a teacher that does little better than guessing; None of any other.

    Args:
        teacher: the one that was measured.
        top1: its accuracy in percent.
        num_classes: of the data set.
    """
    guessing = 100 / num_classes
    if top1 > AT_CHANCE * guessing:
        return None
    return (
        f"the teacher {teacher.source} is about as good as guessing, which reaches {guessing:g} %: "
        "students learn little from it"
    )
