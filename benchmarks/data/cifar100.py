"""CIFAR-100 (Krizhevsky, *Learning multiple layers of features from tiny images*, 2009), from whatever form it has.

Looked for under `cifar100/` in `data.root`, and in `data.root` itself:

- torchvision's `cifar-100-python/` (pickles, read by torchvision after it checked their MD5 sums);
- Hugging Face's parquet files `train*.parquet` and `test*.parquet`, there or in a folder `data/`, each row an
  encoded image `img` and its `fine_label`;
- class folders `train/<class>/*` and `test/<class>/*`.

Else torchvision downloads it. Decoding the images happens once; the bytes are cached.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from functools import partial
from http.client import HTTPException
from pathlib import Path

import torch

from benchmarks.data.dataset import PARTS, Augmentation, DataInfo, Part, Split
from benchmarks.data.decoding import Source, cached, folders_source, parquet_source
from benchmarks.errors import UserError
from benchmarks.vision import torchvision

NUM_CLASSES = 100
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
AUGMENTATION = Augmentation(padding=4, flip=True)
SIDE = 32
TORCHVISION = "cifar-100-python"  # its folder
NAMES: dict[Part, str] = {part: part for part in PARTS}  # of files and folders elsewhere
# SHA-256 of all images with their labels, in whatever order, by the number of images.
CONTENT = {
    50_000: "6d2a03c47c105e4c34d3a2ff16c2803e8df0e5d6fa0c631e46663a327aeac573",
    10_000: "381b7d98ce1e9b98232a8df0db0a22992654c39ff2433270656ab8ace5a45e65",
}


def load(root: Path, cache: Path, part: Part) -> Split:
    """Training or test split; the other one is not decoded.

    Args:
        root: where to look, and where to download to.
        cache: folder for the decoded images.
        part: which split.

    Raises:
        UserError: not there and not to be downloaded, or damaged.
    """
    source = find(root, part) or _download(root, part)
    return cached(cache, f"cifar100-{part}", source.files, lambda: _checked(source.read(), root))


def _checked(split: Split, root: Path) -> Split:
    """A whole CIFAR-100 must be the published one: parquet files have no checksums, and labels no look."""
    known = CONTENT.get(len(split))
    if known and known != _content_sha256(split):
        raise UserError(
            f"data.root={root}: its {len(split):,} images and labels are not CIFAR-100's: the files are damaged "
            "or were encoded with losses"
        )
    return split


def _content_sha256(split: Split) -> str:
    samples = zip(split.targets.tolist(), split.images.numpy(), strict=True)
    digests = sorted(hashlib.sha256(bytes([label]) + image.tobytes()).digest() for label, image in samples)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def find(root: Path, part: Part) -> Source | None:
    """A part in the first layout that is there.

    Raises:
        UserError: a layout that is there in part.
    """
    for base in (root / "cifar100", root):
        if (base / TORCHVISION).is_dir():
            return _torchvision_source(base, part)
        source = parquet_source(base, part, NAMES, ("img", "fine_label"), INFO)
        source = source or folders_source(base, part, NAMES, INFO)
        if source:
            return source
    return None


def _torchvision_source(base: Path, part: Part) -> Source:
    # torchvision checks the sums of all files, whichever it reads.
    files = sorted((base / TORCHVISION).iterdir())
    return Source(files, partial(_from_torchvision, base, part))


def _from_torchvision(root: Path, part: Part, download: bool = False) -> Split:
    try:
        found = torchvision().datasets.CIFAR100(root, train=part == "train", download=download)
    except RuntimeError as error:  # torchvision's word for a checksum that does not fit
        raise UserError(f"data.root={root}: {root / TORCHVISION} is damaged or incomplete ({error})") from None
    return Split(torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets))


def _download(root: Path, part: Part) -> Source:
    """Download beside the place and move there, so that a broken download leaves nothing."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            _from_torchvision(Path(folder), "train", download=True)
            _move(Path(folder) / TORCHVISION, root / TORCHVISION)
        return _torchvision_source(root, part)
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


def _move(made: Path, place: Path) -> None:
    """Put a folder in its place, unless another process has done so by now."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


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
