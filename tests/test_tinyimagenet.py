"""Tiny ImageNet from every layout of a small copy: two random images of each class to train on, one to test."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks import data
from benchmarks.config import DataConfig
from benchmarks.data import Split, tinyimagenet
from benchmarks.errors import UserError

CLASSES = [f"n{7919 * k % 100_003:08d}" for k in range(200)]  # not in alphabetical order
SIZES = {"train": 2, "val": 1}


class Copy:
    """Images as they are when decoded, and encoded; in alphabetical order of the classes."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.classes = sorted(CLASSES)
        self.jpegs: dict[str, list[bytes]] = {}
        self.images: dict[str, torch.Tensor] = {}
        for part, size in SIZES.items():
            coarse = generator.integers(0, 256, (200 * size, 8, 8, 3), dtype=np.uint8)
            self.jpegs[part] = [jpeg(image, grey=k == 3) for k, image in enumerate(coarse)]
            decoded = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in self.jpegs[part]]
            self.images[part] = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)

    def label(self, part: str, k: int) -> int:
        return k // SIZES[part]

    def published(self, root: Path) -> None:
        for k, content in enumerate(self.jpegs["train"]):
            name = self.classes[self.label("train", k)]
            write(root / "train" / name / "images" / f"{name}_{k % 2}.JPEG", content)
            (root / "train" / name / f"{name}_boxes.txt").write_text("a box\n")
        order = [(7 * k) % 200 for k in range(200)]
        rows = [f"val_{row}.JPEG\t{self.classes[k]}\t0\t1\t2\t3\n" for row, k in enumerate(order)]
        for row, k in enumerate(order):
            write(root / "val" / "images" / f"val_{row}.JPEG", self.jpegs["val"][k])
        (root / "val" / "val_annotations.txt").write_text("".join(rows))

    def folders(self, root: Path, inner: str = "") -> None:
        for part, contents in self.jpegs.items():
            for k, content in enumerate(contents):
                write(root / part / self.classes[self.label(part, k)] / inner / f"{k:03d}.JPEG", content)

    def parquet(self, root: Path) -> None:
        root.mkdir(parents=True)
        for part, name in (("train", "train-00000-of-00001-1359597a978bc4fa"), ("val", "valid-00000-of-00001")):
            images = [{"bytes": content, "path": None} for content in self.jpegs[part]]
            labels = [self.label(part, k) for k in range(len(images))]
            pq.write_table(pa.table({"image": images, "label": labels}), root / f"{name}.parquet")


def jpeg(coarse: np.ndarray, grey: bool) -> bytes:
    """An image of 64 × 64; some of Tiny ImageNet's have one channel."""
    image, buffer = Image.fromarray(coarse).resize((64, 64)), io.BytesIO()
    (image.convert("L") if grey else image).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def copy() -> Copy:
    return Copy()


LAYOUTS: dict[str, Callable[[Copy, Path], Any]] = {
    "published": lambda copy, root: copy.published(root),
    "folders": lambda copy, root: copy.folders(root),
    "folders in folders": lambda copy, root: copy.folders(root, "images"),
    "parquet": lambda copy, root: copy.parquet(root / "data"),
}


def by_class(split: Split) -> torch.Tensor:
    """The images in the order of their labels."""
    return split.images[split.targets.argsort(stable=True)]


@pytest.mark.parametrize("base", ["", "tiny-imagenet-200", "tinyimagenet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_hold_the_same(tmp_path: Path, copy: Copy, layout: str, base: str) -> None:
    LAYOUTS[layout](copy, tmp_path / "root" / base)
    config = DataConfig("tinyimagenet", str(tmp_path / "root"), str(tmp_path / "cache"))
    for _ in ("decoded", "from the cache"):
        loaded = data.load(config)
        for split, part in ((loaded.train, "train"), (loaded.evaluation, "val")):
            assert torch.equal(by_class(split), copy.images[part])
            assert split.targets.sort().values.tolist() == [copy.label(part, k) for k in range(len(split))]
    assert loaded.num_classes == 200


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_text(change((root / name).read_text()))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an unknown class": (
        edit("val/val_annotations.txt", lambda text: text.replace(CLASSES[9], "n99999999")),
        "is of class n99999999, which has no training images",
    ),
    "not a text": (
        lambda root: (path := root / "val/val_annotations.txt").write_bytes(b"\xff\xfe" + path.read_bytes()),
        "val_0.JPEG is missing",
    ),
    "no training images": (lambda root: (root / "train").rename(root / "trian"), "train is missing"),
    "no class": (edit("val/val_annotations.txt", lambda text: text + "val_0.JPEG\n"), r"of class \(none\)"),
    "an image missing": (lambda root: (root / "val/images/val_5.JPEG").unlink(), "val_5.JPEG is missing"),
    "an image cut short": (
        lambda root: (path := root / "val/images/val_5.JPEG").write_bytes(path.read_bytes()[:-200]),
        "images holds a damaged image: .*val_5.JPEG: image file is truncated",
    ),
    "another size": (
        lambda root: Image.new("RGB", (32, 32)).save(root / "val/images/val_5.JPEG"),
        "val_5.JPEG: an image of 32 × 32 instead of 64 × 64",
    ),
    "a class too many": (
        lambda root: (root / "train" / "n0").mkdir(),
        "201 class folders; 200 are wanted",
    ),
}


@pytest.mark.parametrize(("damage", "what"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_refused(tmp_path: Path, copy: Copy, damage: Callable[[Path], Any], what: str) -> None:
    copy.published(tmp_path / "root")
    damage(tmp_path / "root")
    with pytest.raises(UserError, match=what):
        tinyimagenet.load(tmp_path / "root", tmp_path / "cache", "test")
    assert not (tmp_path / "cache").exists()


def test_a_file_of_classes_that_was_edited_is_read_again(tmp_path: Path, copy: Copy) -> None:
    copy.published(tmp_path / "root")
    annotations = tmp_path / "root" / "val" / "val_annotations.txt"

    def labels() -> list[int]:
        return tinyimagenet.load(tmp_path / "root", tmp_path / "cache", "test").targets.tolist()

    before, lines = labels(), annotations.read_text().splitlines()
    (name, kind, *_), (other, another, *_) = (line.split("\t") for line in lines[:2])
    swapped = [f"{name}\t{another}", f"{other}\t{kind}", *lines[2:], ""]
    annotations.write_text("\n".join(swapped) + "\n")  # a blank line says nothing
    assert labels() == [before[1], before[0], *before[2:]]


def test_files_whose_names_begin_with_a_dot_are_no_images(tmp_path: Path, copy: Copy) -> None:
    copy.folders(tmp_path)
    write(tmp_path / "train" / copy.classes[0] / ".DS_Store", b"x")
    assert len(tinyimagenet.load(tmp_path, tmp_path / "cache", "train")) == 400


def test_an_images_name_may_be_any_bytes(tmp_path: Path, copy: Copy) -> None:
    copy.folders(tmp_path)
    image = next((tmp_path / "train" / copy.classes[0]).iterdir())
    image.rename(image.with_name("\udcff.JPEG"))
    assert len(tinyimagenet.load(tmp_path, tmp_path / "cache", "train")) == 400


def test_another_data_sets_files_in_the_root_are_told_of(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}-00000-of-00001.parquet").touch()
    with pytest.raises(UserError, match=r"only one of train.* and valid.*another data set's files need a folder"):
        tinyimagenet.load(tmp_path, tmp_path / "cache", "train")


def test_a_part_is_not_taken_for_the_whole(tmp_path: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    copy.folders(tmp_path)
    config = DataConfig("tinyimagenet", str(tmp_path), str(tmp_path / "cache"))
    held_out = dataclasses.replace(config, validation=0.5)
    published = ", not the 100,000 and 10,000 of tinyimagenet"
    assert data.load(config).summary == f"400 training and 200 test images{published}"
    assert data.load(held_out).summary == f"200 training and 200 val images{published}"
    whole = dataclasses.replace(data.INFO["tinyimagenet"], num_train=400, num_test=200)
    monkeypatch.setitem(data.INFO, "tinyimagenet", whole)
    assert data.load(config).summary == "400 training and 200 test images"
    assert data.load(held_out).summary == "200 training and 200 val images"


def test_where_it_is_not_there_the_message_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)not under data\.root=.*tiny-imagenet-200\.zip.*KD_DATA"):
        tinyimagenet.load(tmp_path, tmp_path / "cache", "train")
