"""Tiny ImageNet: 200 classes of ImageNet at 64 × 64 pixels, as Stanford's course CS231n published it (2015).

Looked for under `data.root` and under its `tiny-imagenet-200/` and `tinyimagenet/`:

- the published archive, unpacked: `train/<class>/images/*`, `val/images/*` and `val/val_annotations.txt`;
- class folders `train/<class>/…` and `val/<class>/…`, as many make of it;
- Hugging Face's parquet files `train*.parquet` and `valid*.parquet`, there or in a folder `data/`, each row an
  encoded image `image` and its `label`.

Labels are the classes in alphabetical order. The published test images have no labels, so the validation images
are the test set, as in all that is published on it. Decoding the images happens once; the bytes are cached.

There is no protocol that papers share. Here it is that of CIFAR-100, with a padding of the same part of the image.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.data.dataset import Augmentation, DataInfo, Part, Split
from benchmarks.data.decoding import (
    LabelledFiles,
    Source,
    cached,
    class_names,
    folders_source,
    parquet_source,
)
from benchmarks.errors import UserError, require

NAMES: dict[Part, str] = {"train": "train", "test": "val"}
ANNOTATIONS = "val_annotations.txt"  # file name, class, and the corners of a box


def load(root: Path, cache: Path, part: Part) -> Split:
    """Training or test split; the other one is not decoded.

    Args:
        root: where to look.
        cache: folder for the decoded images.
        part: which split.

    Raises:
        UserError: not there, or damaged.
    """
    source = find(root, part)
    if source is None:
        raise UserError(
            f"Tiny ImageNet is not under data.root={root}.\n"
            "  Unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or set data.root (or the\n"
            "  environment variable KD_DATA) to a folder that holds it, as class folders or parquet files."
        )
    return cached(cache, f"tinyimagenet-{part}", source.files, source.read)


def find(root: Path, part: Part) -> Source | None:
    """A part in the first layout that is there.

    Raises:
        UserError: a layout that is there in part.
    """
    for base in (root / "tiny-imagenet-200", root / "tinyimagenet", root):
        source = (
            _published(base, part)
            or folders_source(base, part, NAMES, INFO)
            or parquet_source(base, part, {"train": "train", "test": "valid"}, ("image", "label"), INFO)
        )
        if source:
            return source
    return None


def _published(base: Path, part: Part) -> Source | None:
    """A part of the archive as published; None where the validation images were sorted into folders since."""
    images, annotations = base / "val" / "images", base / "val" / ANNOTATIONS
    if not images.is_dir() or not annotations.is_file():
        return None
    require((base / "train").is_dir(), f"{base / 'train'} is missing")
    classes = class_names(base / "train", INFO)
    if part == "train":
        found = LabelledFiles.of_folders(base / "train", classes)
        return Source(found.files, partial(found.decode, INFO))
    found = _annotated(images, annotations, {name: label for label, name in enumerate(classes)})
    return Source([annotations, *found.files], partial(found.decode, INFO))


def _annotated(images: Path, annotations: Path, labels: dict[str, int]) -> LabelledFiles:
    """The images that a file gives classes to, in its order."""
    files, found = [], []
    for line in filter(None, annotations.read_text(errors="replace").splitlines()):
        name, kind, *_ = [*line.split("\t"), "(none)"]
        require(kind in labels, f"{annotations}: {name} is of class {kind}, which has no training images")
        require((images / name).is_file(), f"{images / name} is missing")
        files.append(images / name)
        found.append(labels[kind])
    return LabelledFiles(files, found, images)


INFO = DataInfo(
    summary="100,000 + 10,000 natural images of 200 classes, 64 × 64 pixels",
    num_classes=200,
    side=64,
    num_train=100_000,
    num_test=10_000,
    epochs=240,
    lr=None,
    # Over all pixels of the training images.
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    augmentation=Augmentation(padding=8, flip=True),
    load=load,
)
