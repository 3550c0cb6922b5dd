"""CIFAR-100 (Krizhevsky, *Learning multiple layers of features from tiny images*, 2009), from whatever form it has.

Looked for under `data.root` and under its `cifar100/`:

- torchvision's `cifar-100-python/` (pickles, read by torchvision after it checked their MD5 sums);
- Hugging Face's parquet files `train*.parquet` and `test*.parquet`, there or in a folder `data/`, each row an
  encoded image `img` and its `fine_label`;
- class folders `train/<class>/*` and `test/<class>/*`.

Else torchvision downloads it. Decoding the images happens once; the bytes are cached.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.dataset import PARTS, Augmentation, DataInfo, Part, Split
from benchmarks.errors import UserError, first_line, require
from benchmarks.tensors import read_tensors, write_tensors
from benchmarks.vision import torchvision

NUM_CLASSES = 100
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
AUGMENTATION = Augmentation(padding=4, flip=True)
SIDE = 32
TORCHVISION = "cifar-100-python"  # its folder
# SHA-256 of all images with their labels, in whatever order, by the number of images.
CONTENT = {
    50_000: "6d2a03c47c105e4c34d3a2ff16c2803e8df0e5d6fa0c631e46663a327aeac573",
    10_000: "381b7d98ce1e9b98232a8df0db0a22992654c39ff2433270656ab8ace5a45e65",
}


@dataclass(frozen=True)
class Source:
    """CIFAR-100 as found.

    Attributes:
        files: of each part.
        read: decodes a part.
    """

    files: Mapping[Part, list[Path]]
    read: Callable[[Part], Split]


def load(root: Path, cache: Path, part: Part) -> Split:
    """Training or test split; the other one is not decoded.

    Args:
        root: where to look, and where to download to.
        cache: folder for the decoded images.
        part: which split.

    Raises:
        UserError: not there and not to be downloaded, or damaged.
    """
    source = find(root) or _download(root)
    cached = cache / f"cifar100-{part}-{_signature(source.files[part])}.safetensors"
    if cached.is_file():
        tensors = read_tensors(cached, advice="delete it, and it is made again")
        return Split(tensors["images"], tensors["targets"])
    split = source.read(part)
    _check_content(split, root)
    _write_cache(cached, split)
    return split


def _check_content(split: Split, root: Path) -> None:
    """A whole CIFAR-100 must be the published one: parquet files have no checksums, and labels no look."""
    known = CONTENT.get(len(split))
    if known and known != _content_sha256(split):
        raise UserError(
            f"data.root={root}: its {len(split):,} images and labels are not CIFAR-100's: the files are damaged "
            "or were encoded with losses"
        )


def _content_sha256(split: Split) -> str:
    samples = zip(split.targets.tolist(), split.images.numpy(), strict=True)
    digests = sorted(hashlib.sha256(bytes([label]) + image.tobytes()).digest() for label, image in samples)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _write_cache(path: Path, split: Split) -> None:
    try:
        write_tensors(path, {"images": split.images, "targets": split.targets})
    except UserError as error:
        raise UserError(f"data.cache={path.parent}: {error}") from None


def find(root: Path) -> Source | None:
    """The first layout that is there.

    Raises:
        UserError: a layout that is there in part.
    """
    for base in (root, root / "cifar100"):
        if (base / TORCHVISION).is_dir():
            return _torchvision_source(base)
        for folder in (base, base / "data"):
            shards = {part: _shards(folder, part) for part in PARTS}
            if any(shards.values()):
                require(all(shards.values()), f"{folder} holds only one of train*.parquet and test*.parquet")
                return Source(shards, partial(_from_parquet, shards))
        if all((base / part).is_dir() for part in PARTS):
            files = {part: sorted((base / part).glob("*/*")) for part in PARTS}
            return Source(files, partial(_from_folders, base))
    return None


def _torchvision_source(base: Path) -> Source:
    # torchvision checks the sums of all files, whichever it reads.
    files = sorted((base / TORCHVISION).iterdir())
    return Source(dict.fromkeys(PARTS, files), partial(_from_torchvision, base))


def _shards(folder: Path, part: str) -> list[Path]:
    """The parquet files of a split, all of them or none."""
    files = sorted(folder.glob(f"{part}*.parquet"))
    if len(files) == 1 and "-of-" not in files[0].name:
        return files
    for total in {match[1] for path in files if (match := re.search(r"-of-(\d+)", path.name))}:
        for k in range(int(total)):
            path = folder / f"{part}-{k:0{len(total)}}-of-{total}.parquet"
            require(path in files, f"{path} is missing")
        require(len(files) == int(total), f"{folder} holds more {part}*.parquet than one set of {total}")
    return files


def _signature(files: Iterable[Path]) -> str:
    """Changes when a file does."""
    digest = hashlib.sha256(b"2")  # version of the cache's content
    for path in files:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _from_torchvision(root: Path, part: Part, download: bool = False) -> Split:
    try:
        found = torchvision().datasets.CIFAR100(root, train=part == "train", download=download)
    except RuntimeError as error:  # torchvision's word for a checksum that does not fit
        raise UserError(f"data.root={root}: {root / TORCHVISION} is damaged or incomplete ({error})") from None
    return Split(torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets))


def _download(root: Path) -> Source:
    """Download beside the place and move there, so that a broken download leaves nothing."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            _from_torchvision(Path(folder), "train", download=True)
            (Path(folder) / TORCHVISION).rename(root / TORCHVISION)
        return _torchvision_source(root)
    except (OSError, HTTPException, UserError, RecursionError) as error:  # no network, space or permission
        for made in missing:
            with contextlib.suppress(OSError):  # never made, or somebody else's by now
                made.rmdir()
        reason = "it is incomplete" if isinstance(error, UserError) else error
        raise UserError(
            f"CIFAR-100 is not under data.root={root}, and downloading it failed ({reason}).\n"
            "  Set data.root (or the environment variable KD_DATA) to a folder that holds it: torchvision's\n"
            "  cifar-100-python/, Hugging Face's parquet files or class folders.\n"
            "  Without any download: data=digits"
        ) from None


def _from_parquet(shards: Mapping[Part, Sequence[Path]], part: Part) -> Split:
    splits = [_read_parquet(path) for path in shards[part]]
    return Split(torch.cat([split.images for split in splits]), torch.cat([split.targets for split in splits]))


def _read_parquet(path: Path) -> Split:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["img", "fine_label"])
        images, labels = pc.struct_field(table["img"], "bytes"), table["fine_label"]
        if not pa.types.is_integer(labels.type) or labels.null_count or images.null_count:
            raise ValueError("fine_label must be integers, and nothing may be missing")
        return _decode([io.BytesIO(image) for image in images.to_pylist()], labels.to_pylist(), str(path))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not a readable parquet file of CIFAR-100 with columns img (struct with bytes) and "
            f"fine_label: {first_line(error)}"
        ) from None


def _from_folders(root: Path, part: Part) -> Split:
    classes = _class_names(root / "train")
    require(
        len(classes) == NUM_CLASSES,
        f"{root / 'train'} has {len(classes)} class folders; CIFAR-100 has {NUM_CLASSES}",
    )
    require(_class_names(root / "test") == classes, f"{root}: train/ and test/ have different class folders")
    return _read_folder(root / part, classes)


def _class_names(folder: Path) -> list[str]:
    """In the order of the labels: alphabetical, or by number where the folders are numbered."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _read_folder(folder: Path, classes: list[str]) -> Split:
    files, labels = [], []
    for label, name in enumerate(classes):
        found = sorted((folder / name).glob("*"))
        require(bool(found), f"{folder / name} holds no image")
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
            raise UserError(f"{where} holds a damaged image: {first_line(error)}") from None
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(stacked, torch.tensor(labels, dtype=torch.int64))


def _decode_one(file: Any) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as image:
        image.verify()  # a PNG has checksums, which decoding does not look at
    with Image.open(file) as image:
        if image.size != (SIDE, SIDE):  # known before anything is decoded
            raise ValueError(f"an image of {image.width} × {image.height} instead of {SIDE} × {SIDE}")
        return np.asarray(image.convert("RGB"))


INFO = DataInfo(
    summary="50,000 + 10,000 natural images of 100 classes",
    num_classes=NUM_CLASSES,
    side=SIDE,
    num_train=50_000,
    num_test=10_000,
    epochs=240,
    lr=None,
    mean=MEAN,
    std=STD,
    augmentation=AUGMENTATION,
    load=load,
)
