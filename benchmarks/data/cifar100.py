"""CIFAR-100 (Krizhevsky, *Learning multiple layers of features from tiny images*, 2009), from whatever form it has.

Looked for under `data.root` and under its `cifar100/`:

- torchvision's `cifar-100-python/` (pickles, read by torchvision after it checked their MD5 sums);
- Hugging Face's parquet files `train*.parquet` and `test*.parquet`, there or in a folder `data/`, each row an
  encoded image `img` and its `fine_label`;
- class folders `train/<class>/*` and `test/<class>/*`.

Else torchvision downloads it. Decoding the images happens once; the bytes are cached.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.dataset import Augmentation, Split
from benchmarks.errors import UserError
from benchmarks.files import read_tensors, write_tensors
from benchmarks.vision import torchvision

NUM_CLASSES = 100
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
AUGMENTATION = Augmentation(padding=4, flip=True)
SIDE = 32


@dataclass(frozen=True)
class Source:
    """CIFAR-100 as found: its files, and how to read them into training and test split."""

    files: list[Path]
    read: Callable[[], tuple[Split, Split]]


def load(root: Path, cache: Path) -> tuple[Split, Split]:
    """Training and test split.

    Args:
        root: where to look, and where to download to.
        cache: folder for the decoded images.

    Raises:
        UserError: not there and not to be downloaded, or damaged.
    """
    source = find(root)
    if source is None:
        return _download(root)
    cached = cache / f"cifar100-{_signature(source.files)}.safetensors"
    if cached.is_file():
        tensors = read_tensors(cached)
    else:
        train, test = source.read()
        tensors = {
            "train.images": train.images,
            "train.targets": train.targets,
            "test.images": test.images,
            "test.targets": test.targets,
        }
        write_tensors(cached, tensors)
    return (
        Split(tensors["train.images"], tensors["train.targets"]),
        Split(tensors["test.images"], tensors["test.targets"]),
    )


def find(root: Path) -> Source | None:
    """The first layout that is there."""
    for base in (root, root / "cifar100"):
        if (base / "cifar-100-python").is_dir():
            files = sorted((base / "cifar-100-python").iterdir())
            return Source(files, partial(_from_torchvision, base, download=False))
        for folder in (base, base / "data"):
            parquet = {part: sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "test")}
            if parquet["train"] and parquet["test"]:
                return Source(parquet["train"] + parquet["test"], partial(_from_parquet, parquet))
        if (base / "train").is_dir() and (base / "test").is_dir():
            files = sorted(path for part in ("train", "test") for path in (base / part).glob("*/*"))
            return Source(files, partial(_from_folders, base))
    return None


def _signature(files: Iterable[Path]) -> str:
    """Changes when a file does."""
    digest = hashlib.sha256(b"1")  # version of the cache's content
    for path in files:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _from_torchvision(root: Path, download: bool) -> tuple[Split, Split]:
    datasets = torchvision().datasets
    try:
        parts = [datasets.CIFAR100(root, train=train, download=download) for train in (True, False)]
    except RuntimeError as error:  # torchvision's word for a checksum that does not fit
        raise UserError(
            f"data.root={root}: {root / 'cifar-100-python'} is damaged or incomplete ({error})"
        ) from None
    train, test = (
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    )
    return train, test


def _download(root: Path) -> tuple[Split, Split]:
    new = not root.exists()
    try:
        return _from_torchvision(root, download=True)
    except OSError as error:  # no network, no space, no permission
        if new and root.exists() and not any(root.iterdir()):
            root.rmdir()
        raise UserError(
            f"CIFAR-100 is not under data.root={root}, and downloading it failed ({error}).\n"
            "  Set data.root (or the environment variable KD_DATA) to a folder that holds it: torchvision's\n"
            "  cifar-100-python/, Hugging Face's parquet files or class folders.\n"
            "  Without any download: data=digits"
        ) from None


def _from_parquet(parquet: dict[str, list[Path]]) -> tuple[Split, Split]:
    return _read_parquet(parquet["train"]), _read_parquet(parquet["test"])


def _read_parquet(files: Sequence[Path]) -> Split:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images: list[Any] = []
    labels: list[int] = []
    for path in files:
        try:
            table = pq.read_table(path, columns=["img", "fine_label"])
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is no readable parquet file of CIFAR-100: {_first_line(error)}") from None
        images += table["img"].combine_chunks().field("bytes").to_pylist()
        labels += table["fine_label"].to_pylist()
    return _decode([io.BytesIO(image) for image in images], labels, str(files[0]))


def _from_folders(root: Path) -> tuple[Split, Split]:
    classes = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    if len(classes) != NUM_CLASSES:
        raise UserError(f"{root / 'train'} has {len(classes)} class folders; CIFAR-100 has {NUM_CLASSES}")
    train, test = (_read_folder(root / part, classes) for part in ("train", "test"))
    return train, test


def _read_folder(folder: Path, classes: list[str]) -> Split:
    files, labels = [], []
    for label, name in enumerate(classes):
        found = sorted((folder / name).glob("*"))
        files += found
        labels += [label] * len(found)
    return _decode(files, labels, str(folder))


def _decode(files: Sequence[Any], labels: Sequence[int], where: str) -> Split:
    """Encoded images, in order, to a split. Pillow decodes outside Python's lock, so threads help."""
    if not files or min(labels) < 0 or max(labels) >= NUM_CLASSES:
        raise UserError(f"{where}: labels must be 0 to {NUM_CLASSES - 1}, with at least one image")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            images = list(pool.map(_decode_one, files, chunksize=256))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{where} holds a damaged image: {_first_line(error)}") from None
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(stacked, torch.tensor(labels, dtype=torch.int64))


def _decode_one(file: Any) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"an image of {pixels.shape[1]} × {pixels.shape[0]} instead of {SIDE} × {SIDE}")
    return pixels


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
