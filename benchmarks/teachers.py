"""Teachers: found in the store, given as a checkpoint, or trained here once for every student that follows.

The store keeps a teacher by network, data set, split, protocol and seed, as `teacher.safetensors` and `card.json`,
in `<root>/<network>/<data>-<epochs>ep-seed<seed>-<hash>/`. A teacher trained for one epoch, or on a part of the
training set, never passes for another.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import checkpoints, models
from benchmarks.checkpoints import Checkpoint
from benchmarks.config import RunConfig, TrainConfig
from benchmarks.errors import UserError
from benchmarks.files import read_tensors, write_json
from benchmarks.identity import code_version, environment, short_hash, weights_sha256
from benchmarks.protocol import StudentConfig, plain, scaled_milestones
from benchmarks.training.build import place
from methods import FeatureSpec, configure
from methods.schedules import LossConfig

# A teacher whose accuracy differs by more from what its card says is another one, or is fed otherwise.
Specs = tuple[FeatureSpec, FeatureSpec]  # of student and teacher

TOLERANCE = 1.0  # points of top-1
# Training settings that make another teacher; what it runs on does not.
PROTOCOL_FIELDS = (
    "epochs",
    "batch_size",
    "lr",
    "momentum",
    "weight_decay",
    "milestones",
    "decay",
    "max_steps",
)


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
        network = checkpoints.load_network(self.network, num_classes, self.checkpoint)
        network.requires_grad_(False).eval()
        return place(network, device)


def teacher_config(run: RunConfig) -> StudentConfig:
    """How the run's teacher is trained where none is there: by cross entropy under the common protocol.

    From the students' protocol it takes what makes trials short, never what tunes them.
    """
    train = dataclasses.replace(
        run.train,
        epochs=run.teacher.epochs,
        batch_size=64,
        lr=models.entry(run.pair.teacher).lr,
        momentum=0.9,
        weight_decay=5e-4,
        milestones=scaled_milestones(run.teacher.epochs),
        decay=0.1,
    )
    pair = dataclasses.replace(run.pair, student=run.pair.teacher)
    none = configure("none", label="teacher")
    return StudentConfig(none, pair, run.data, run.teacher.seed, train, LossConfig().resolve(none))


def folder(run: RunConfig) -> Path:
    """The place in the store of the teacher that a run asks for."""
    config = teacher_config(run)
    key = {
        "network": run.pair.teacher,
        "data": run.data.name,
        "validation": run.data.validation,
        "seed": config.seed,
        "protocol": _protocol(config.train),
    }
    name = f"{run.data.name}-{config.train.epochs}ep-seed{config.seed}-{short_hash(key, 8)}"
    return Path(run.teacher.root) / run.pair.teacher / name


def _protocol(train: TrainConfig) -> dict[str, Any]:
    return {name: plain(getattr(train, name)) for name in PROTOCOL_FIELDS}


def find(run: RunConfig) -> Teacher | None:
    """The teacher that `teacher.checkpoint` names, else the store's; None if it is still to be trained.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    if run.teacher.checkpoint is not None:
        try:
            checkpoint = checkpoints.read(Path(run.teacher.checkpoint))
        except UserError as error:
            raise UserError(f"teacher.checkpoint: {error}") from None
        sha256 = weights_sha256(checkpoint.state)
        return Teacher(run.pair.teacher, checkpoint, sha256, str(checkpoint.path))
    card_path = folder(run) / "card.json"
    if not card_path.is_file():
        return None
    card = _read_card(card_path)
    path = folder(run) / "teacher.safetensors"
    checkpoint = Checkpoint(path, read_tensors(path), card["top1"])
    sha256 = weights_sha256(checkpoint.state)
    if sha256 != card["sha256"]:
        raise UserError(
            f"{path} is not what its card describes (other SHA-256); delete {folder(run)} to train it again"
        )
    return Teacher(run.pair.teacher, checkpoint, sha256, str(folder(run)))


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return card | {"sha256": str(card["sha256"]), "top1": float(card["top1"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete its folder to train the teacher again") from None


def store(run: RunConfig, network: models.Network, history: list[dict[str, float]]) -> Teacher:
    """Put a teacher just trained into the store, and return it."""
    place, config = folder(run), teacher_config(run)
    split = "val" if run.data.validation else "test"
    sha256 = weights_sha256(network.state_dict())
    device = next(network.parameters()).device
    card = {
        "network": run.pair.teacher,
        "data": run.data.name,
        "validation": run.data.validation,
        "split": split,
        "top1": history[-1][f"{split}/top1"],
        "sha256": sha256,
        "seed": config.seed,
        "protocol": _protocol(config.train),
        "precision": plain(config.train.precision),
        "code": code_version(),
        "environment": environment(device),
        "history": history,
    }
    # The card comes last: a folder with a card is whole.
    checkpoints.write(place / "teacher.safetensors", network, {"network": run.pair.teacher})
    write_json(place / "card.json", card)
    teacher = find(run)
    assert teacher is not None
    return teacher


def check_accuracy(teacher: Teacher, top1: float, split: str) -> None:
    """Stop a teacher that is far from what is said of it.

    Raises:
        UserError: top-1 differs from the claimed one by more than `TOLERANCE`.
    """
    claimed = teacher.checkpoint.claimed_top1
    in_store = teacher.checkpoint.path.name == "teacher.safetensors"
    if claimed is None or (split != "test" and not in_store):
        return  # what other projects' files claim is about the test set
    if top1 < claimed - TOLERANCE:
        raise UserError(
            f"the teacher {teacher.source} reaches {top1:.2f} % top-1, far from the {claimed:.2f} % claimed for "
            "it: wrong data set, class order or file?"
        )
