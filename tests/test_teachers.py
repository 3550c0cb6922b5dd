"""The teacher store: which runs share a teacher, and that a teacher is what its card says."""

import dataclasses
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lines import run_of
from safetensors.torch import load_file, save_file

from benchmarks import models, teachers
from benchmarks.config import LrSchedule, Precision, RunConfig
from benchmarks.errors import UserError
from benchmarks.models import Network
from benchmarks.stored import load_teacher
from benchmarks.teachers import Teacher, TeacherPlan
from benchmarks.tensors import write_tensors
from benchmarks.weight_files import Checkpoint

HISTORY = [{"epoch": 1.0, "test/top1": 40.0, "val/top1": 30.0}, {"epoch": 2.0, "test/top1": 90.5, "val/top1": 80.5}]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    network = models.create("resnet8", 10)
    with torch.no_grad():
        network(torch.randn(8, 3, 32, 32))
    return network


@pytest.fixture(scope="module")
def base() -> RunConfig:
    return run_of()


@pytest.fixture
def run(base: RunConfig, tmp_path: Path) -> RunConfig:
    """A run whose store is empty."""
    return dataclasses.replace(base, teacher=dataclasses.replace(base.teacher, root=str(tmp_path / "teachers")))


@pytest.fixture
def stored(run: RunConfig, network: Network) -> Path:
    """The folder of a teacher in the store."""
    store(run, network)
    return folder(run)


def folder(run: RunConfig) -> Path:
    return TeacherPlan.of(run).folder


def find(run: RunConfig) -> Teacher | None:
    return teachers.find(TeacherPlan.of(run))


def store(run: RunConfig, network: Network) -> Teacher:
    plan = TeacherPlan.of(run)
    return teachers.store(plan, network, HISTORY[-1][f"{plan.data.split}/top1"], "trained here", HISTORY)


@torch.no_grad()
def logits(network: Network) -> torch.Tensor:
    return network.eval()(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


# --- which runs share a teacher


@pytest.mark.parametrize(
    "changed",
    [
        ["pair.teacher=resnet14"],
        ["data=cifar100", "train.epochs=4"],
        ["data.validation=0.1"],
        ["data.validation=0.2"],
        ["teacher.epochs=2"],
        ["train.epochs=2"],  # the default of teacher.epochs
        ["train.max_steps=5"],
        ["teacher.seed=1"],
    ],
    ids=" ".join,
)
def test_what_changes_a_teacher_gives_it_another_folder(base: RunConfig, changed: list[str]) -> None:
    assert folder(run_of(*changed)) != folder(base)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pair.student", "resnet14"),
        ("pair.name", "another"),
        ("seed", 1),
        ("train.lr", 0.3),
        ("train.batch_size", 7),
        ("train.momentum", 0.5),
        ("train.weight_decay", 0.0),
        ("train.milestones", [1]),
        ("train.decay", 0.5),
        ("train.schedule", LrSchedule.cosine),
        ("train.epochs", 9),  # teacher.epochs stays
        ("train.precision", Precision.bf16),
        ("train.threads", 3),
        ("train.deterministic", True),
        ("loss.schedule", "cosine"),
        ("data.root", "elsewhere"),
        ("data.cache", "elsewhere"),
        ("tracking.project", "another"),
        ("methods", ["kd", "at"]),
        ("method", None),
        ("rerun", True),
    ],
)
def test_what_students_alone_notice_leaves_the_teacher_the_same(base: RunConfig, key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    if section:
        value = dataclasses.replace(getattr(base, section), **{name: value})
    changed = dataclasses.replace(base, **{section or name: value})
    assert changed != base
    assert folder(changed) == folder(base)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["train.epochs=6"], (3, 6)),
        (["train.epochs=6", "teacher.epochs=5"], (5, 6)),
        (["train.epochs=480", "data=cifar100"], (240, 480)),
        (["train.epochs=3", "teacher.epochs=1"], (1, 3)),
        (["train.epochs=6", "teacher.epochs=6"], None),
        (["train.epochs=6", "teacher.epochs=9"], None),
        (["train.epochs=6", "teacher.checkpoint=mine.pth"], None),
        (["train.epochs=2"], None),
        ([], None),
    ],
)
def test_a_teacher_of_fewer_epochs_than_its_students_is_said(
    words: list[str], numbers: tuple[int, int] | None
) -> None:
    found = list(teachers.remarks(run_of("seed=1", *words)))
    if numbers is None:
        assert not found
        return
    (remark,) = found
    taught, learn = numbers
    for part in (f"of {taught} epoch", f"for {learn};", f"teacher.epochs={learn} "):
        assert part in remark


@pytest.mark.parametrize(
    ("words", "twins"),
    [
        (["pair.student=resnet20"], True),
        (["pair.student=resnet20", "seed=3", "teacher.seed=3"], True),
        (["pair.student=resnet20", "seed=3"], False),
        (["pair.student=resnet20", "teacher.checkpoint=mine.pth"], False),
        (["pair.student=resnet8"], False),
    ],
)
def test_a_student_that_begins_as_its_teacher_did_is_said(words: list[str], twins: bool) -> None:
    remarks = list(teachers.remarks(run_of("pair=custom", "pair.teacher=resnet20", *words)))
    assert [("begin with the same weights" in remark) for remark in remarks] == [True] * twins


def test_every_pair_that_names_a_network_shares_its_teacher() -> None:
    shared = {folder(run_of(f"pair={name}")) for name in ("resnet32x4_resnet8x4", "resnet32x4_shufflev1")}
    assert len(shared) == 1


def test_the_teachers_of_earlier_commands_are_found_where_they_were_stored() -> None:
    """The README's, whose place is a hash of its protocol."""
    name = "digits-3ep-seed0-400665b8"
    assert folder(run_of("pair=vgg13_vgg8")).name == name
    assert name in (Path(__file__).parent.parent / "README.md").read_text()


def test_the_store_lies_in_the_output_folder_unless_said_otherwise() -> None:
    assert Path("runs/teachers") in folder(run_of()).parents
    assert Path("there/teachers") in folder(run_of("output=there")).parents
    assert Path("store") in folder(run_of("output=there", "teacher.root=store")).parents


def test_a_teacher_is_trained_as_ever_whatever_tunes_the_student() -> None:
    """The common protocol, whatever tunes the student; only the data set's own rate and what shortens trials."""
    run = run_of("pair.teacher=MobileNetV2", "train.lr=0.3", "train.batch_size=7", "train.max_steps=5", "seed=3")
    config = TeacherPlan.of(run).config
    train = config.train
    assert (config.pair.student, config.method.name, config.seed, config.data) == (
        "MobileNetV2",
        "none",
        0,
        run.data,
    )
    assert (train.lr, train.batch_size, train.momentum, train.weight_decay) == (0.05, 64, 0.9, 5e-4)
    assert (train.max_steps, train.epochs, train.milestones, train.decay) == (5, 3, [2], 0.1)


# --- in and out


def test_a_stored_teacher_comes_back_frozen_with_its_last_accuracy(run: RunConfig, network: Network) -> None:
    assert find(run) is None
    stored = store(run, network)
    found = find(run)
    assert found is not None
    assert found.sha256 == stored.sha256
    assert found.checkpoint.claimed_top1 == 90.5  # the last epoch's, not the best one's
    loaded = found.load(10, CPU)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    torch.testing.assert_close(logits(loaded), logits(network))


def test_a_stored_teacher_is_read_by_its_folder(run: RunConfig, network: Network, stored: Path) -> None:
    images = torch.randn(2, 3, 32, 32)
    taught = load_teacher(stored)
    torch.testing.assert_close(taught(images), network.eval()(images))
    assert not any(parameter.requires_grad for parameter in taught.parameters())
    with pytest.raises(UserError, match="cannot be read"):
        load_teacher(stored.parent)


def test_a_store_that_is_asked_does_not_change(run: RunConfig, tmp_path: Path) -> None:
    find(run)
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_serves_no_other_run(run: RunConfig, network: Network, tmp_path: Path) -> None:
    store(run, network)
    assert find(run_of(f"output={tmp_path}", "teacher.seed=1")) is None
    assert find(run_of(f"output={tmp_path}", "data.validation=0.1")) is None
    assert find(run_of(f"output={tmp_path}", "seed=1")) is not None


def test_the_card_tells_what_the_teacher_is(stored: Path) -> None:
    card = json.loads((stored / "card.json").read_text())
    assert (card["network"], card["data"], card["split"], card["top1"]) == ("resnet8", "digits", "test", 90.5)
    assert card["seed"] == 0
    assert card["protocol"]["epochs"] == 3
    assert card["precision"] in {"fp32", "bf16"}
    assert card["code"]["sources"]
    assert card["environment"]["libraries"]["torch"] == torch.__version__
    assert len(card["sha256"]) == 64
    assert card["history"] == HISTORY
    assert sorted(path.name for path in stored.iterdir()) == ["card.json", "teacher.safetensors"]


def test_with_a_validation_split_the_card_tells_its_accuracy(network: Network, tmp_path: Path) -> None:
    run = run_of(f"output={tmp_path}", "data.validation=0.2")
    assert store(run, network).checkpoint.claimed_top1 == 80.5
    card = json.loads((folder(run) / "card.json").read_text())
    assert (card["split"], card["validation"]) == ("val", 0.2)


def store_interrupted(run: RunConfig, network: Network, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Store a teacher until it is the turn of the file `broken` to be put into its place."""
    put = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == broken:
            raise KeyboardInterrupt
        return put(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            store(run, network)


@pytest.mark.parametrize("broken", ["teacher.safetensors", "card.json"])
def test_the_card_comes_last(
    run: RunConfig, network: Network, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A store that is interrupted in the middle leaves no teacher."""
    store_interrupted(run, network, monkeypatch, broken)
    assert not (folder(run) / "card.json").exists()
    assert (folder(run) / "teacher.safetensors").exists() == (broken == "card.json")
    assert find(run) is None
    assert not list(folder(run).glob(".*"))
    store(run, network)
    assert find(run) is not None


@pytest.mark.parametrize("broken", ["teacher.safetensors", "card.json"])
def test_where_replacing_is_interrupted_no_teacher_is_left(
    run: RunConfig, stored: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Least of all new weights under the old card."""
    store_interrupted(run, models.create("resnet8", 10), monkeypatch, broken)
    assert find(run) is None


# --- a store that was tampered with


def refused(run: RunConfig) -> str:
    with pytest.raises(UserError) as caught:
        find(run)
    message = str(caught.value)
    assert str(folder(run)) in message
    return message


def test_other_weights_than_the_card_describes_are_refused(run: RunConfig, stored: Path) -> None:
    path = stored / "teacher.safetensors"
    tensors = load_file(path)
    tensors["fc.bias"][0] += 1e-3
    save_file(tensors, path)
    assert "SHA-256" in refused(run)


def test_truncated_or_missing_weights_are_refused(run: RunConfig, stored: Path) -> None:
    path = stored / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refused(run)
    path.unlink()
    refused(run)


@pytest.mark.parametrize(
    "damage",
    [
        lambda card: "",
        lambda card: json.dumps(card)[:50],
        lambda card: "[]",
        lambda card: "3",
        lambda card: json.dumps({key: value for key, value in card.items() if key != "sha256"}),
        lambda card: json.dumps({key: value for key, value in card.items() if key != "top1"}),
        lambda card: json.dumps(card | {"top1": None}),
        lambda card: json.dumps(card | {"top1": "ninety"}),
        lambda card: json.dumps(card | {"top1": float("nan")}),  # no accuracy would ever be too low
    ],
    ids=["empty", "truncated", "list", "number", "no sha256", "no top1", "null top1", "text top1", "nan top1"],
)
def test_a_damaged_card_is_named(run: RunConfig, stored: Path, damage: Callable[[Any], str]) -> None:
    path = stored / "card.json"
    path.write_text(damage(json.loads(path.read_text())))
    assert "card.json" in refused(run)


def test_a_card_that_is_no_text_is_named(run: RunConfig, stored: Path) -> None:
    (stored / "card.json").write_bytes(b"\xff\xfe\x00")
    assert "card.json" in refused(run)


# --- a checkpoint of the user's


def test_a_checkpoint_is_a_teacher(tmp_path: Path, network: Network) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": network.state_dict(), "best_acc": 12.5}, path)
    teacher = teachers.given("resnet8", str(path), 10)
    assert (teacher.network, teacher.checkpoint.claimed_top1) == ("resnet8", 12.5)
    assert str(path) in teacher.source
    torch.testing.assert_close(logits(teacher.load(10, CPU)), logits(network))


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        teachers.given("resnet8", str(tmp_path / "weights.pth"), 10)
    assert str(tmp_path / "weights.pth") in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_checkpoint_that_diverged_is_refused(tmp_path: Path, network: Network, value: float) -> None:
    spoilt = network.state_dict() | {"fc.bias": torch.full((10,), value)}
    torch.save({"model": spoilt}, path := tmp_path / "weights.pth")
    with pytest.raises(
        UserError, match=rf"^teacher.checkpoint: {path}: its fc.bias holds values that are not finite"
    ):
        teachers.given("resnet8", str(path), 10)


def test_a_stored_teacher_given_as_a_checkpoint_still_claims_its_accuracy(stored: Path) -> None:
    """Our own format carries what it says of itself, so that it is checked wherever it is taken to."""
    assert teachers.given("resnet8", str(stored / "teacher.safetensors"), 10).checkpoint.claimed_top1 == 90.5


def test_the_same_weights_are_the_same_teacher_in_every_format(
    run: RunConfig, network: Network, tmp_path: Path
) -> None:
    """The student's run is identified by the teacher's weights, not by their file."""
    sha256 = store(run, network).sha256
    state = network.state_dict()
    moved = deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    contents = {
        "plain.pth": dict(reversed(state.items())),
        "model.pth": {"model": state, "best_acc": 3.0},
        "parallel.pth": {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        "layout.pth": moved.state_dict(),
        "old.pth": {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
        "wide.pth": {name: tensor.double() for name, tensor in state.items()},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
    write_tensors(tmp_path / "ours.safetensors", network.state_dict())
    for name in (*contents, "ours.safetensors"):
        assert teachers.given("resnet8", str(tmp_path / name), 10).sha256 == sha256, name


# --- its accuracy


def teacher(claimed: float | None, path: str = "somewhere/weights.pth") -> Teacher:
    return Teacher("resnet8", Checkpoint(Path(path), {}, claimed), "0" * 64, path)


@pytest.mark.parametrize("top1", [70.0, 69.9, 69.1, 75.0, 100.0])
def test_an_accuracy_near_the_claim_passes(top1: float) -> None:
    teachers.check_accuracy(teacher(70.0), top1, "test")


@pytest.mark.parametrize("top1", [0.0, 1.0, 60.0, 68.9])
def test_an_accuracy_far_under_the_claim_is_refused(top1: float) -> None:
    with pytest.raises(UserError) as caught:
        teachers.check_accuracy(teacher(70.0), top1, "test")
    for part in ("somewhere/weights.pth", f"{top1:.2f}", "70.00"):
        assert part in str(caught.value)


def test_no_claim_is_no_complaint() -> None:
    teachers.check_accuracy(teacher(None), 1.0, "test")


def test_a_claim_about_the_test_images_is_not_held_against_the_validation_images() -> None:
    teachers.check_accuracy(teacher(70.0), 60.0, "val")


@pytest.mark.parametrize(("top1", "num_classes", "said"), [(20.0, 10, True), (20.1, 10, False), (2.1, 100, False)])
def test_a_teacher_at_chance_is_remarked_on(top1: float, num_classes: int, said: bool) -> None:
    warning = teachers.at_chance(teacher(None), top1, num_classes)
    assert (warning is not None and "about as good as guessing" in warning) == said


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_stored_teacher_is_held_to_its_card(run: RunConfig, network: Network, tmp_path: Path, split: str) -> None:
    if split == "val":
        run = run_of(f"output={tmp_path}", "data.validation=0.2")
    stored = store(run, network)
    claimed = HISTORY[-1][f"{split}/top1"]
    teachers.check_accuracy(stored, claimed - 0.1, split)
    with pytest.raises(UserError):
        teachers.check_accuracy(stored, claimed - 5, split)
