"""Data sets and batches, against slow references in NumPy and a small copy of CIFAR-100 in every layout."""

import dataclasses
import hashlib
import io
import itertools
import os
import pickle
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from helpers import cifar100_root, epoch_of
from PIL import Image
from plugin import install
from small_cifar100 import NUM_TRAIN, Copy, png
from torch import Tensor

from benchmarks import data
from benchmarks.config import DataConfig
from benchmarks.data import Augmentation, Batch, DataSet, EvaluationBatches, Split, TrainBatches, cifar100, digits
from benchmarks.data.dataset import Part
from benchmarks.data.splits import stratified
from benchmarks.errors import RunFailed, UserError
from benchmarks.stored import load_data
from benchmarks.vision import torchvision

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PADDING = 4
# SHA-256, abbreviated.
DIGITS_TEST_LABELS, DIGITS_TEST_IMAGES = "723b354289d5bac3", "427668d56b2f69d5"


def synthetic(num_data: int = 23, side: int = 8, *, flip: bool = True, constant: bool = False) -> DataSet:
    """Random images; with `constant` one image for all samples, no two of whose pixels are alike."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_data, 3, side, side), generator=generator, dtype=torch.uint8)
    if constant:
        images = torch.arange(1, side**2 + 1, dtype=torch.uint8).view(1, 1, side, side).repeat(num_data, 3, 1, 1)
    split = Split(images, torch.randint(0, 5, (num_data,), generator=generator))
    return DataSet(split, split, "test", 5, MEAN, STD, Augmentation(PADDING, flip))


def normalised(image: np.ndarray, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> np.ndarray:
    """Bytes `[C, H, W]` in float64, channel by channel."""
    return np.stack([(image[c] / 255.0 - mean[c]) / std[c] for c in range(3)])


def augmented(image: np.ndarray, *, flip: bool) -> dict[tuple[int, int, bool], np.ndarray]:
    """All that one image can become: zeros around it, a crop of its size, mirrored or not; then normalised."""
    _, height, width = image.shape
    padded = np.zeros((3, height + 2 * PADDING, width + 2 * PADDING), dtype=image.dtype)
    padded[:, PADDING : PADDING + height, PADDING : PADDING + width] = image
    found = {}
    for row, column in itertools.product(range(2 * PADDING + 1), repeat=2):
        crop = padded[:, row : row + height, column : column + width]
        found[row, column, False] = normalised(crop)
        if flip:
            found[row, column, True] = normalised(crop[:, :, ::-1])
    return found


def which(image: Tensor, candidates: dict[tuple[int, int, bool], np.ndarray]) -> tuple[int, int, bool]:
    """The one augmentation that an image shows."""
    keys, stacked = list(candidates), np.stack(list(candidates.values()))
    distances = np.abs(stacked - image.double().numpy()).reshape(len(keys), -1).max(axis=1)
    (match,) = np.flatnonzero(distances < 1e-5)
    return keys[match]


def batches(dataset: DataSet, batch_size: int = 5, seed: int = 0, max_steps: int | None = None) -> TrainBatches:
    return TrainBatches(dataset, batch_size, seed, CPU, max_steps)


def order(epoch: Iterator[Batch]) -> list[int]:
    return torch.cat([batch.index for batch in epoch]).tolist()


def by_index(epoch: Iterator[Batch]) -> dict[int, Tensor]:
    """Each sample's image."""
    return {int(index): image for batch in epoch for index, image in zip(batch.index, batch.images, strict=True)}


def assert_same(one: Batch, other: Batch) -> None:
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.index, other.index)


# --- training batches


@pytest.mark.parametrize("flip", [True, False])
def test_every_image_is_one_crop_of_its_own_sample(flip: bool) -> None:
    dataset = synthetic(flip=flip)
    for batch in epoch_of(batches(dataset), 0):
        for image, target, index in zip(batch.images, batch.targets, batch.index, strict=True):
            which(image, augmented(dataset.train.images[index].numpy(), flip=flip))  # fails where none matches
            assert target == dataset.train.targets[index]


def test_crops_in_the_size_and_constants_of_cifar100() -> None:
    dataset = synthetic(6, 32)
    dataset = DataSet(dataset.train, dataset.train, "test", 100, cifar100.MEAN, cifar100.STD, cifar100.AUGMENTATION)
    assert (cifar100.MEAN, cifar100.STD) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    assert Augmentation(padding=4, flip=True) == cifar100.AUGMENTATION
    (batch,) = epoch_of(batches(dataset, 64), 0)
    for image, index in zip(batch.images, batch.index, strict=True):
        padded = np.pad(dataset.train.images[index].numpy(), ((0, 0), (4, 4), (4, 4)))
        crops = (
            normalised(crop[:, :, ::step], cifar100.MEAN, cifar100.STD)
            for row, column, step in itertools.product(range(9), range(9), (1, -1))
            for crop in [padded[:, row : row + 32, column : column + 32]]
        )
        assert sum(np.allclose(crop, image.double().numpy(), atol=1e-5) for crop in crops) == 1


@pytest.mark.parametrize("flip", [True, False])
def test_all_crops_and_flips_are_reached_about_equally_often(flip: bool) -> None:
    num_data = 3240
    dataset = synthetic(num_data, constant=True, flip=flip)
    candidates = augmented(dataset.train.images[0].numpy(), flip=flip)
    found = Counter(which(image, candidates) for image in by_index(epoch_of(batches(dataset, 500), 0)).values())
    assert set(found) == set(candidates)
    crops = Counter[tuple[int, int]]()
    for (row, column, _), count in found.items():
        crops[row, column] += count
    assert len(crops) == 81
    assert 12 < min(crops.values()) < 40 < max(crops.values()) < 80  # 40 expected
    mirrored = sum(count for (_, _, flipped), count in found.items() if flipped) / num_data
    assert mirrored == pytest.approx(0.5 if flip else 0.0, abs=0.03)


@pytest.mark.parametrize(
    ("num_data", "batch_size", "sizes"), [(23, 5, [5, 5, 5, 5, 3]), (20, 5, [5] * 4), (3, 5, [3])]
)
def test_an_epoch_has_every_sample_once_and_a_short_last_batch(
    num_data: int, batch_size: int, sizes: list[int]
) -> None:
    train = batches(synthetic(num_data), batch_size)
    assert [len(batch.index) for batch in epoch_of(train, 3)] == sizes
    assert train.steps_per_epoch == len(sizes)
    assert sorted(order(epoch_of(train, 3))) == list(range(num_data))
    assert order(epoch_of(train, 3)) != list(range(num_data)) or num_data == 3


@pytest.mark.parametrize("max_steps", [None, 3])
def test_an_epoch_goes_on_where_it_was_left(max_steps: int | None) -> None:
    train = batches(synthetic(), max_steps=max_steps)
    whole = list(epoch_of(train, 1))
    for start in range(len(whole) + 1):
        rest = list(epoch_of(batches(synthetic(), max_steps=max_steps), 1, start=start))
        assert len(rest) == len(whole) - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert_same(one, other)


def test_max_steps_ends_an_epoch_and_changes_nothing_else() -> None:
    short, whole = batches(synthetic(), max_steps=2), batches(synthetic())
    assert short.steps_per_epoch == len(list(epoch_of(short, 0))) == 2
    for one, other in zip(epoch_of(short, 0), epoch_of(whole, 0), strict=False):
        assert_same(one, other)
    assert batches(synthetic(), max_steps=99).steps_per_epoch == whole.steps_per_epoch == 5


def test_the_batch_size_changes_neither_order_nor_augmentation() -> None:
    small, large = batches(synthetic(), 4), batches(synthetic(), 9)
    assert order(epoch_of(small, 2)) == order(epoch_of(large, 2))
    images, others = by_index(epoch_of(small, 2)), by_index(epoch_of(large, 2))
    assert all(torch.equal(images[index], others[index]) for index in range(23))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_order_and_augmentation_change_with_epoch_and_seed(seed: int, epoch: int) -> None:
    first, other = batches(synthetic()), batches(synthetic(), seed=seed)
    assert order(epoch_of(first, 0)) != order(epoch_of(other, epoch))
    images, others = by_index(epoch_of(first, 0)), by_index(epoch_of(other, epoch))
    assert sum(torch.equal(images[index], others[index]) for index in range(23)) < 5  # 1 in 162 by chance


def test_batches_neither_use_nor_disturb_the_global_random_numbers() -> None:
    torch.manual_seed(1)
    one = list(epoch_of(batches(synthetic()), 0))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    torch.manual_seed(2)
    for batch, other in zip(one, epoch_of(batches(synthetic()), 0), strict=True):
        assert_same(batch, other)


def test_two_epochs_may_be_read_at_once() -> None:
    train = batches(synthetic())
    together = list(zip(epoch_of(train, 0), epoch_of(train, 1), strict=True))
    for (one, other), alone, alone_other in zip(together, epoch_of(train, 0), epoch_of(train, 1), strict=True):
        assert_same(one, alone)
        assert_same(other, alone_other)


def assert_layout(batch: Batch, size: int) -> None:
    assert batch.images.shape == (size, 3, 8, 8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert not batch.images.is_contiguous()
    assert (batch.images.dtype, batch.targets.dtype, batch.index.dtype) == (
        torch.float32,
        torch.int64,
        torch.int64,
    )


def test_batches_are_float32_and_lie_channels_last() -> None:
    train = batches(synthetic(), 20)
    for batch, size in zip(epoch_of(train, 0), (20, 3), strict=True):
        assert_layout(batch, size)
    assert_layout(train.probe(7), 7)
    for batch, size in zip(EvaluationBatches(synthetic(), CPU, 20), (20, 3), strict=True):
        assert_layout(batch, size)


def test_the_probe_is_the_first_samples_as_they_are() -> None:
    dataset = synthetic()
    probe = batches(dataset).probe(7)
    assert probe.index.tolist() == list(range(7))
    assert torch.equal(probe.targets, dataset.train.targets[:7])
    for image, original in zip(probe.images, dataset.train.images, strict=False):
        np.testing.assert_allclose(image, normalised(original.numpy()), atol=1e-5)
    assert len(batches(dataset).probe(99).index) == 23


@pytest.mark.parametrize("batch_size", [1, 5, 23, 500])
def test_evaluation_sees_every_image_once_in_order_as_it_is(batch_size: int) -> None:
    dataset = synthetic()
    found = list(EvaluationBatches(dataset, CPU, batch_size))
    assert order(iter(found)) == list(range(23))
    assert torch.equal(torch.cat([batch.targets for batch in found]), dataset.evaluation.targets)
    images = torch.cat([batch.images for batch in found])
    expected = np.stack([normalised(image) for image in dataset.evaluation.images.numpy()])
    np.testing.assert_allclose(images, expected, atol=1e-5)


# --- splits


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.37])
def test_a_split_holds_out_every_class_in_proportion(fraction: float) -> None:
    targets = torch.arange(7).repeat_interleave(torch.tensor([20, 30, 40, 50, 60, 70, 130]))
    targets = targets[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    kept, held_out = stratified(targets, fraction)
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(400))
    assert kept.tolist() == sorted(kept.tolist())
    assert held_out.tolist() == sorted(held_out.tolist())
    assert held_out.numel() == pytest.approx(fraction * 400, abs=1)
    for label in range(7):
        in_class = int((targets == label).sum())
        assert int((targets[held_out] == label).sum()) == pytest.approx(fraction * in_class, abs=1)


def test_a_split_is_always_the_same() -> None:
    targets = torch.arange(5).repeat(40)
    first = stratified(targets, 0.2)
    np.random.seed(7)  # noqa: NPY002 — scikit-learn's default source of randomness
    torch.manual_seed(7)
    second = stratified(targets, 0.2)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_test_set_of_digits_is_the_same_on_every_machine() -> None:
    """Its labels and indices pinned: another split would make results incomparable."""
    test = digits.load("test")
    assert hashlib.sha256(test.targets.numpy().tobytes()).hexdigest()[:16] == DIGITS_TEST_LABELS
    assert hashlib.sha256(test.images.numpy().tobytes()).hexdigest()[:16] == DIGITS_TEST_IMAGES


@pytest.mark.parametrize(("fraction", "size"), [(1e-6, 1), (0.0001, 1), (0.006, 9), (0.9999, 1437)])
def test_a_validation_split_that_would_lack_classes_is_refused(fraction: float, size: int) -> None:
    what = (
        rf"data\.validation={fraction} of 1,437 images holds out {size:,} and leaves {1437 - size:,}: .* 10 classes"
    )
    with pytest.raises(UserError, match=what):
        data.load(DataConfig("digits", validation=fraction))


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(UserError, match="one image at least of each of the 2 classes"):
        stratified(torch.tensor([0] * 9 + [1]), 0.5)


def rows(split: Split) -> Counter[bytes]:
    """Its samples, as a multiset."""
    return Counter(
        image.numpy().tobytes() + bytes([int(target)])
        for image, target in zip(split.images, split.targets, strict=True)
    )


def test_a_validation_split_comes_from_the_training_set_alone(tmp_path: Path) -> None:
    whole = data.load(DataConfig("digits", str(tmp_path), str(tmp_path)))
    split = data.load(DataConfig("digits", str(tmp_path), str(tmp_path), 0.2))
    assert (whole.evaluation_name, split.evaluation_name) == ("test", "val")
    assert len(split.evaluation) == pytest.approx(0.2 * len(whole.train), abs=1)
    assert rows(split.train) + rows(split.evaluation) == rows(whole.train)
    again = data.load(DataConfig("digits", str(tmp_path), str(tmp_path), 0.2))
    assert torch.equal(again.train.images, split.train.images)
    assert list(tmp_path.iterdir()) == []


# --- a data set of the user's own

IMAGES, LABELS = torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.arange(8) % 4
# What is loaded of a part, and what the message must say.
MISFITS: dict[str, tuple[Any, str]] = {
    "float": (
        Split(IMAGES / 255, LABELS),
        r"images are float32 \[8, 3, 32, 32\], instead of uint8 \[N, 3, 32, 32\]",
    ),
    "grey": (Split(IMAGES[:, :1], LABELS), r"images are uint8 \[8, 1, 32, 32\]"),
    "channels last": (Split(IMAGES.permute(0, 2, 3, 1), LABELS), r"images are uint8 \[8, 32, 32, 3\]"),
    "28 × 28": (Split(IMAGES[..., 2:30, 2:30], LABELS), r"images are uint8 \[8, 3, 28, 28\]"),
    "64 × 64": (Split(IMAGES.repeat(1, 1, 2, 2), LABELS), r"images are uint8 \[8, 3, 64, 64\]"),
    "one image": (Split(IMAGES[0], LABELS[:1]), r"images are uint8 \[3, 32, 32\]"),
    "array": (Split(IMAGES.numpy(), LABELS), "images are a numpy.ndarray"),  # type: ignore[arg-type]
    "int32 labels": (Split(IMAGES, LABELS.int()), r"labels are int32 \[8\], instead of int64 \[N\]"),
    "a column of labels": (Split(IMAGES, LABELS[:, None]), r"labels are int64 \[8, 1\]"),
    "a list of labels": (Split(IMAGES, LABELS.tolist()), "labels are a builtins.list"),  # type: ignore[arg-type]
    "lengths": (Split(IMAGES, LABELS[:7]), "8 images and 7 labels"),
    "nothing": (Split(IMAGES[:0], LABELS[:0]), "0 images and 0 labels"),
    "from 1": (Split(IMAGES, LABELS + 1), "labels are 1 to 4, instead of 0 to 3 at most"),
    "ignored": (Split(IMAGES, LABELS - 1), "labels are -1 to 2"),
    "tuple": ((IMAGES, LABELS), "a tuple was loaded instead of a Split"),
}


def add_data(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    """Enter a data set of four classes, `mine`, that loads these."""
    info = dataclasses.replace(digits.INFO, num_classes=4, load=lambda root, cache, part: parts[part])
    monkeypatch.setitem(data.INFO, "mine", info)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(("split", "what"), MISFITS.values(), ids=MISFITS)
def test_a_data_set_that_no_training_can_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, split: Any, what: str, part: str
) -> None:
    add_data(monkeypatch, **{"train": Split(IMAGES, LABELS), "test": Split(IMAGES, LABELS), part: split})
    with pytest.raises(UserError, match=rf"^data=mine, {part} part: .*{what}"):
        data.load(DataConfig("mine"))


def test_a_data_set_may_have_any_number_of_images_and_lack_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    add_data(monkeypatch, train=Split(IMAGES[:3], LABELS[:3]), test=Split(IMAGES[:1], LABELS[:1]))
    assert len(data.load(DataConfig("mine")).train) == 3


# --- digits


def enlarged(image: np.ndarray) -> np.ndarray:
    """8 × 8 to 32 × 32, each new pixel's centre interpolated between the nearest old centres."""
    weights = np.zeros((32, 8))
    for new in range(32):
        place = min(max((new + 0.5) / 4 - 0.5, 0.0), 7.0)
        low = min(int(place), 6)
        weights[new, low], weights[new, low + 1] = 1 - (place - low), place - low
    return weights @ image @ weights.T


def test_digits_are_scikit_learns_enlarged() -> None:
    from sklearn.datasets import load_digits

    raw = load_digits()
    train, test = digits.load("train"), digits.load("test")
    kept, held_out = stratified(torch.from_numpy(raw.target), 0.2)
    assert (len(train), len(test)) == (1437, 360)
    for split, index in ((train, kept), (test, held_out)):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (3, 32, 32)
        assert split.targets.tolist() == raw.target[index.numpy()].tolist()
        expected = np.stack([enlarged(image) for image in raw.images[index.numpy()]]) * 255 / 16
        for channel in range(3):
            assert np.abs(split.images[:, channel].numpy() - expected).max() <= 0.51  # rounded
        counts = torch.bincount(split.targets, minlength=10) / len(split)
        assert (counts - torch.bincount(torch.from_numpy(raw.target)) / 1797).abs().max() < 0.004


def test_digits_are_normalised_by_their_own_mean_and_deviation() -> None:
    train = digits.load("train")
    pixels = train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(digits.MEAN[0], abs=1e-3)
    assert pixels.std().item() == pytest.approx(digits.STD[0], abs=1e-3)


def test_digits_are_not_flipped_and_need_no_folder(tmp_path: Path) -> None:
    dataset = data.load(DataConfig("digits", str(tmp_path / "none"), str(tmp_path / "none")))
    assert dataset.num_classes == data.INFO["digits"].num_classes == 10
    assert not dataset.augmentation.flip
    assert not (tmp_path / "none").exists()


# --- CIFAR-100 from every layout


def load(root: Path, cache: Path) -> tuple[Split, Split]:
    """Both parts of the CIFAR-100 in a folder."""
    return cifar100.load(root, cache, "train"), cifar100.load(root, cache, "test")


@pytest.fixture(scope="module")
def copy() -> Copy:
    return Copy()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def expect_md5(monkeypatch: pytest.MonkeyPatch, sums: dict[str, str]) -> None:
    """Have torchvision take a small copy's files for the real ones."""
    cls = torchvision().datasets.CIFAR100
    monkeypatch.setattr(cls, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(cls, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": sums["meta"]})


def assert_is(found: tuple[Split, Split], copy: Copy) -> None:
    for split, part in zip(found, ("train", "test"), strict=True):
        assert (split.images.dtype, split.targets.dtype) == (torch.uint8, torch.int64)
        np.testing.assert_array_equal(split.images.numpy().transpose(0, 2, 3, 1), copy.images[part])
        assert split.targets.tolist() == copy.labels[part].tolist()


LAYOUTS: dict[str, Callable[[Copy, Path], Any]] = {
    "parquet": lambda copy, root: copy.parquet(root),
    "two shards": lambda copy, root: copy.parquet(root, 2),
    "twelve shards": lambda copy, root: copy.parquet(root, 12),
    "data": lambda copy, root: copy.parquet(root / "data", 1),
    "folders": lambda copy, root: copy.folders(root),
}


@pytest.mark.parametrize("base", ["", "cifar100"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_hold_the_same(tmp_path: Path, cache: Path, copy: Copy, layout: str, base: str) -> None:
    LAYOUTS[layout](copy, tmp_path / "root" / base)
    assert_is(load(tmp_path / "root", cache), copy)
    assert_is(load(tmp_path / "root", cache), copy)  # from the cache


@pytest.mark.parametrize("base", ["", "cifar100"])
def test_torchvisions_layout_holds_the_same(
    tmp_path: Path, cache: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    expect_md5(monkeypatch, copy.pickles(tmp_path / "root" / base))
    assert_is(load(tmp_path / "root", cache), copy)
    assert_is(load(tmp_path / "root", cache), copy)


def test_labels_follow_their_images_in_a_shuffled_file(tmp_path: Path, cache: Path, copy: Copy) -> None:
    shuffle = np.random.default_rng(1).permutation(NUM_TRAIN)
    copy.parquet(tmp_path / "root")
    pq.write_table(copy.table("train").take(shuffle), tmp_path / "root" / "train.parquet")
    train, _ = load(tmp_path / "root", cache)
    np.testing.assert_array_equal(train.images.numpy().transpose(0, 2, 3, 1), copy.images["train"][shuffle])
    assert train.targets.tolist() == copy.labels["train"][shuffle].tolist()


def test_a_validation_split_of_cifar100_holds_out_every_class(tmp_path: Path, cache: Path, copy: Copy) -> None:
    copy.parquet(tmp_path / "root")
    dataset = data.load(DataConfig("cifar100", str(tmp_path / "root"), str(cache), 0.5))
    assert (len(dataset.train), len(dataset.evaluation), dataset.evaluation_name) == (100, 100, "val")
    assert torch.bincount(dataset.evaluation.targets, minlength=100).tolist() == [1] * 100
    whole = data.load(DataConfig("cifar100", str(tmp_path / "root"), str(cache)))
    assert not set(rows(dataset.evaluation)) & set(rows(whole.evaluation))
    assert (dataset.num_classes, dataset.mean, dataset.std) == (100, cifar100.MEAN, cifar100.STD)


# --- the cache


def test_decoding_happens_once(tmp_path: Path, cache: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    copy.parquet(tmp_path / "root")
    load(tmp_path / "root", cache)
    files = sorted(cache.iterdir())
    written = [path.stat().st_mtime_ns for path in files]
    assert len(files) == 2

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(pq, "read_table", fail)
    assert_is(load(tmp_path / "root", cache), copy)
    assert sorted(cache.iterdir()) == files
    assert [path.stat().st_mtime_ns for path in files] == written


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left")])
def test_a_cache_is_whole_or_not_there(
    tmp_path: Path, cache: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    copy.parquet(tmp_path / "root")

    def crash(tensors: Any, path: Any, metadata: Any = None) -> None:
        Path(path).write_bytes(b"half of it")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", crash)
        with pytest.raises((KeyboardInterrupt, RunFailed)):
            load(tmp_path / "root", cache)
    assert list(cache.iterdir()) == []
    assert_is(load(tmp_path / "root", cache), copy)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_source_is_decoded_anew(tmp_path: Path, cache: Path, copy: Copy, layout: str) -> None:
    root = tmp_path / "root"
    LAYOUTS[layout](copy, root)
    load(root, cache)
    path = sorted(
        path for path in root.rglob("test*/**/*" if layout == "folders" else "test*.parquet") if path.is_file()
    )[0]
    if layout == "folders":
        path.write_bytes(png(np.full((32, 32, 3), 7, np.uint8)))
    else:
        table = pq.read_table(path)
        first = {"bytes": png(np.full((32, 32, 3), 7, np.uint8)), "path": "0.png"}
        images = [first, *table["img"].to_pylist()[1:]]
        pq.write_table(table.set_column(0, "img", pa.array(images)), path)
    _, test = load(root, cache)
    assert torch.equal(test.images[0], torch.full((3, 32, 32), 7, dtype=torch.uint8))


def test_a_source_of_the_same_size_written_later_is_decoded_anew(tmp_path: Path, cache: Path, copy: Copy) -> None:
    copy.parquet(tmp_path / "root")
    load(tmp_path / "root", cache)
    path = tmp_path / "root" / "test.parquet"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000_000))
    load(tmp_path / "root", cache)
    assert len(list(cache.glob("*-train-*"))) == 1
    assert len(list(cache.glob("*-test-*"))) == 2


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("size", [0, 7, 100, 100_000])
def test_a_damaged_cache_is_named_and_made_again_once_it_is_deleted(
    tmp_path: Path, cache: Path, copy: Copy, part: str, size: int
) -> None:
    copy.parquet(tmp_path / "root")
    load(tmp_path / "root", cache)
    (file,) = cache.glob(f"*-{part}-*")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError) as caught:
        load(tmp_path / "root", cache)
    assert str(file) in str(caught.value)
    file.unlink()  # as the message says
    assert_is(load(tmp_path / "root", cache), copy)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, copy: Copy) -> None:
    copy.parquet(tmp_path / "root")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache"):
        load(tmp_path / "root", tmp_path / "file")


# --- what is damaged or missing


def change(part: str, **columns: Any) -> Callable[[Copy, Path], Path]:
    """Rewrite a part with other columns, each from the table's own."""

    def write(copy: Copy, root: Path) -> Path:
        copy.parquet(root)
        table = copy.table(part).to_pydict()
        for name, new in columns.items():
            table[name] = new(table[name])
            if table[name] is None:
                del table[name]
        pq.write_table(pa.table(table), root / f"{part}.parquet")
        return root / f"{part}.parquet"

    return write


def raw(content: Callable[[bytes], bytes]) -> Callable[[Copy, Path], Path]:
    """Rewrite the bytes of the training part."""

    def write(copy: Copy, root: Path) -> Path:
        copy.parquet(root)
        path = root / "train.parquet"
        path.write_bytes(content(path.read_bytes()))
        return path

    return write


def image(new: bytes | None) -> Callable[[list[Any]], list[Any]]:
    return lambda images: [*images[:-1], {"bytes": new, "path": "last.png"}]


def shards(act: Callable[[Copy, Path], None]) -> Callable[[Copy, Path], Path]:
    """Act on the second of two shards of the training part."""

    def write(copy: Copy, root: Path) -> Path:
        copy.parquet(root, 2)
        path = root / "train-00001-of-00002.parquet"
        act(copy, path)
        return path

    return write


def _damage_last_image(copy: Copy, path: Path) -> None:
    table = pq.read_table(path).to_pydict()
    pq.write_table(pa.table(table | {"img": image(b"no image")(table["img"])}), path)


PNG = png(np.zeros((32, 32, 3), np.uint8))
DAMAGES: dict[str, Callable[[Copy, Path], Path]] = {
    "empty": raw(lambda content: b""),
    "text": raw(lambda content: b"version https://git-lfs.github.com/spec/v1\n"),
    "truncated": raw(lambda content: content[: len(content) // 2]),
    "without its end": raw(lambda content: content[:-1]),
    "bytes overwritten": raw(lambda content: content[:3000] + b"\xff" * 3000 + content[6000:]),
    "no image": change("train", img=image(b"no image")),
    "empty image": change("train", img=image(b"")),
    "null image": change("train", img=image(None)),
    "truncated image": change("train", img=image(PNG[:-20])),
    "image with damaged pixels": change("train", img=image(PNG[:45] + b"\xff" * 8 + PNG[53:])),
    "image too small": change("train", img=image(png(np.zeros((32, 31, 3), np.uint8)))),
    "image too large": change("test", img=image(png(np.zeros((64, 64, 3), np.uint8)))),
    "label too large": change("train", fine_label=lambda labels: [100, *labels[1:]]),
    "label below 0": change("test", fine_label=lambda labels: [-1, *labels[1:]]),
    "null label": change("train", fine_label=lambda labels: [None, *labels[1:]]),
    "labels of text": change("train", fine_label=lambda labels: [f"class {label}" for label in labels]),
    "labels between classes": change(
        "train", fine_label=lambda labels: [label + 0.5 for label in labels[:-2]] + [1.0, 2.0]
    ),
    "no labels": change("train", fine_label=lambda labels: None),
    "no images": change("train", img=lambda images: None),
    "bare bytes": change("train", img=lambda images: [entry["bytes"] for entry in images]),
    "paths only": change("train", img=lambda images: [{"path": entry["path"]} for entry in images]),
    "no rows": change(
        "train",
        img=lambda images: images[:0],
        fine_label=lambda labels: labels[:0],
        coarse_label=lambda labels: labels[:0],
    ),
    "second shard damaged": shards(lambda copy, path: path.write_bytes(b"PAR1")),
    "image in the second shard damaged": shards(_damage_last_image),
    "second shard missing": shards(lambda copy, path: path.unlink()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parquet_is_named_and_nothing_of_it_is_cached(
    tmp_path: Path, cache: Path, copy: Copy, damage: str
) -> None:
    path = DAMAGES[damage](copy, tmp_path / "root")
    before = sorted((tmp_path / "root").iterdir())
    with pytest.raises(UserError) as caught:
        load(tmp_path / "root", cache)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 5
    assert not list(cache.glob("*-test-*" if path.name.startswith("test") else "*"))
    assert sorted((tmp_path / "root").iterdir()) == before


def _no_class(copy: Copy, root: Path) -> None:
    for path in (root / "train" / "class_07").iterdir():
        path.unlink()
    (root / "train" / "class_07").rmdir()


FOLDER_DAMAGES: dict[str, Callable[[Copy, Path], object]] = {
    "a class missing": _no_class,
    "a class too many": lambda copy, root: (root / "train" / "another").mkdir(),
    "a class renamed in the test set": lambda copy, root: (root / "test" / "class_07").rename(root / "test" / "x"),
    "a class without images": lambda copy, root: [
        path.unlink() for path in (root / "train" / "class_07").iterdir()
    ],
    "no image": lambda copy, root: (root / "train" / "class_07" / "x.png").write_text("no image"),
    "wrong size": lambda copy, root: (root / "test" / "class_07" / "x.png").write_bytes(
        png(np.zeros((8, 8, 3), np.uint8))
    ),
}


@pytest.mark.parametrize("damage", FOLDER_DAMAGES)
def test_damaged_class_folders_are_refused_and_nothing_of_them_is_cached(
    tmp_path: Path, cache: Path, copy: Copy, damage: str
) -> None:
    root = tmp_path / "root"
    copy.folders(root)
    FOLDER_DAMAGES[damage](copy, root)
    with pytest.raises(UserError) as caught:
        load(root, cache)
    assert str(root) in str(caught.value)
    assert not list(cache.glob("*-test-*" if damage == "wrong size" else "*"))


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")], ids=["missing", "altered"]
)
def test_damaged_pickles_are_refused(
    tmp_path: Path,
    cache: Path,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[Path], object],
) -> None:
    expect_md5(monkeypatch, copy.pickles(tmp_path / "root"))
    damage(tmp_path / "root" / "cifar-100-python" / name)
    with pytest.raises(UserError, match="cifar-100-python"):
        load(tmp_path / "root", cache)
    assert not cache.exists()


def test_pickles_are_not_opened_unless_their_checksums_fit(tmp_path: Path, cache: Path, copy: Copy) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    copy.pickles(tmp_path / "root")
    (tmp_path / "root" / "cifar-100-python" / "train").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError):
        load(tmp_path / "root", cache)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("root", ["root", "several/folders/deep"])
def test_without_data_and_network_the_message_says_what_would_do(tmp_path: Path, cache: Path, root: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path / root, cache)
    for part in (f"data.root={tmp_path / root}", "KD_DATA", "data=digits", "no network here"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_package_has_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "from benchmarks.data.digits import INFO\n"
    install(tmp_path, {"mydata": text}, {"data": "mine = mykd.mydata:INFO"})
    assert data._info.__wrapped__()["mine"] is digits.INFO
    for point, said in (
        ("digits = mykd.mydata:INFO", "two data sets"),
        ("mine = mykd.mydata:INF", "mykd.mydata:INF"),
        ("mine = mykd.mydata", "as MODULE:INFO"),
    ):
        (tmp_path / "mykd-1.0.dist-info" / "entry_points.txt").write_text(f"[kd_benchmarks.data]\n{point}\n")
        with pytest.raises(UserError, match=said):
            data._info.__wrapped__()


def test_ones_own_code_reads_from_where_commands_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=f"data.root={tmp_path}"):
        load_data("cifar100")
    assert load_data("digits", validation=0.1).evaluation_name == "val"


def test_what_lies_in_the_root_stays(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "root" / "other").mkdir(parents=True)
    with pytest.raises(UserError, match=r"data\.root"):
        load(tmp_path / "root", cache)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["other"]


def test_a_root_that_is_a_file_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(UserError, match=r"data\.root"):
        load(tmp_path / "root", cache)


class Response:
    """An answer of the server, broken off after `size` bytes where that is said."""

    def __init__(self, url: str, content: bytes, size: int | None, error: Exception | None) -> None:
        self.url, self.length, self.error = url, len(content), error
        self.stream = io.BytesIO(content[:size])

    def read(self, size: int = -1) -> bytes:
        found = self.stream.read(size)
        if not found and self.error:
            raise self.error
        return found

    def __enter__(self) -> "Response":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def serve(
    monkeypatch: pytest.MonkeyPatch, content: bytes, size: int | None = None, error: Exception | None = None
) -> None:
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda request, **_: Response(request.full_url, content, size, error)
    )


@pytest.fixture
def archive(tmp_path: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The small copy as the file that is downloaded, its checksums expected."""
    expect_md5(monkeypatch, copy.pickles(tmp_path / "made"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-100-python", "cifar-100-python")
    monkeypatch.setattr(torchvision().datasets.CIFAR100, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    return buffer.getvalue()


@pytest.mark.parametrize("existing", [True, False])
def test_a_download_is_loaded_and_needs_no_network_again(
    tmp_path: Path, cache: Path, copy: Copy, archive: bytes, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    if existing:
        (tmp_path / "root").mkdir()
    with monkeypatch.context() as patch:
        serve(patch, archive)
        patch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # from another disk nothing can be renamed
        assert_is(load(tmp_path / "root", cache), copy)
    assert_is(load(tmp_path / "root", cache), copy)  # without network


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [None, ConnectionResetError("reset by peer")], ids=["ends early", "reset"])
def test_a_download_that_breaks_off_leaves_nothing_behind(
    tmp_path: Path,
    cache: Path,
    archive: bytes,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    existing: bool,
) -> None:
    root = tmp_path / "root"
    if existing:
        root.mkdir()
    serve(monkeypatch, archive, len(archive) // 2, error)
    with pytest.raises(UserError) as caught:
        load(root, cache)
    for part in (f"data.root={root}", "download"):
        assert part in str(caught.value)
    assert root.exists() == existing
    assert not existing or list(root.iterdir()) == []


def test_what_another_process_has_downloaded_meanwhile_is_taken(
    tmp_path: Path, cache: Path, copy: Copy, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that begin at once on a machine without data download it each."""
    serve(monkeypatch, archive)
    rename = Path.rename

    def second(self: Path, target: Path) -> Path:
        shutil.copytree(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second)
    assert_is(load(tmp_path / "root", cache), copy)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["cifar-100-python"]


# --- the real data set


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Part], Split]:
    """Decodes a part of it, the first time that it is asked for."""
    root = cifar100_root()
    if root is None:
        pytest.skip("no CIFAR-100 here: set KD_DATA to the folder that holds it")
    return partial(cifar100.load, root, tmp_path_factory.mktemp("cache"))


REAL = pytest.mark.parametrize(
    ("part", "size", "tolerance"),  # of the published figures, which are those of the training images
    [("test", 10_000, 3e-3), pytest.param("train", 50_000, 3e-4, marks=pytest.mark.slow)],
    ids=["test", "train"],
)


@REAL
def test_the_real_cifar100_is_balanced(
    real: Callable[[Part], Split], part: Part, size: int, tolerance: float
) -> None:
    split = real(part)
    assert split.images.shape == (size, 3, 32, 32)
    assert torch.bincount(split.targets, minlength=100).tolist() == [size // 100] * 100


@REAL
def test_the_real_cifar100_has_the_published_mean_and_deviation(
    real: Callable[[Part], Split], part: Part, size: int, tolerance: float
) -> None:
    values, images = torch.arange(256, dtype=torch.float64) / 255, real(part).images
    for channel in range(3):
        share = torch.bincount(images[:, channel].flatten().int(), minlength=256) / (size * 1024)
        mean = (share * values).sum()
        std = (share * (values - mean) ** 2).sum().sqrt()
        assert mean.item() == pytest.approx(cifar100.MEAN[channel], abs=tolerance)
        assert std.item() == pytest.approx(cifar100.STD[channel], abs=tolerance)
