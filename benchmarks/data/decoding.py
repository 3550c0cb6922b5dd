"""From image files to a split of bytes: class folders and parquet files, decoded once and then cached."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.dataset import DataInfo, Part, Split
from benchmarks.errors import UserError, first_line, require
from benchmarks.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Source:
    """A part of a data set as found.

    Attributes:
        files: that it is read from.
        read: decodes it.
    """

    files: list[Path]
    read: Callable[[], Split]


def cached(folder: Path, name: str, files: Iterable[Path], read: Callable[[], Split]) -> Split:
    """What was decoded from files once, or is decoded now.

    Args:
        folder: for decoded images.
        name: of data set and part.
        files: what is read.
        read: decodes them.

    Raises:
        UserError: what is cached is damaged, or nothing can be written there.
    """
    path = folder / f"{name}-{_signature(files)}.safetensors"
    if path.is_file():
        tensors = read_tensors(path, advice="delete it, and it is made again")
        return Split(tensors["images"], tensors["targets"])
    split = read()
    try:
        write_tensors(path, {"images": split.images, "targets": split.targets})
    except UserError as error:
        raise UserError(f"data.cache={folder}: {error}") from None
    return split


def _signature(files: Iterable[Path]) -> str:
    """Changes when a file does."""
    digest = hashlib.sha256(b"2")  # version of the cache's content
    resolved = cache(Path.resolve)  # of a hundred thousand files in few folders
    for path in files:
        stat = path.stat()
        line = f"{resolved(path.parent)}/{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a name may be any bytes
    return digest.hexdigest()[:16]


def parquet_source(
    base: Path, part: Part, names: Mapping[Part, str], columns: tuple[str, str], info: DataInfo
) -> Source | None:
    """Parquet files in a folder or in its `data/`, with an image and its label in each row.

    Args:
        base: where to look.
        part: which split; the files of both must be there.
        names: what the names of each part's files begin with.
        columns: that of encoded images, a struct with `bytes`, and that of labels, integers.
        info: what images and labels must agree with.

    Raises:
        UserError: some are there, and some are missing.
    """
    for folder in (base, base / "data"):
        shards = {each: _shards(folder, name) for each, name in names.items()}
        if any(shards.values()):
            wanted = " and ".join(f"{name}*.parquet" for name in names.values())
            what = f"{folder} holds only one of {wanted}; another data set's files need a folder of their own"
            require(all(shards.values()), what)
            return Source(shards[part], partial(_read_parquet, shards[part], columns, info))
    return None


def _shards(folder: Path, name: str) -> list[Path]:
    """The parquet files of a part, all of them or none."""
    files = sorted(folder.glob(f"{name}*.parquet"))
    for total in {match[1] for path in files if (match := re.search(r"-of-(\d+)", path.name))}:
        for k in range(int(total)):
            shard = f"{name}-{k:0{len(total)}}-of-{total}"  # and a hash, at times
            require(any(path.name.startswith(shard) for path in files), f"{folder / shard}.parquet is missing")
        require(len(files) == int(total), f"{folder} holds more {name}*.parquet than one set of {total}")
    return files


def _read_parquet(paths: Sequence[Path], columns: tuple[str, str], info: DataInfo) -> Split:
    splits = [_read_shard(path, *columns, info) for path in paths]
    return Split(torch.cat([split.images for split in splits]), torch.cat([split.targets for split in splits]))


def _read_shard(path: Path, image: str, label: str, info: DataInfo) -> Split:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=[image, label])
        images, labels = pc.struct_field(table[image], "bytes"), table[label]
        if not pa.types.is_integer(labels.type) or labels.null_count or images.null_count:
            raise ValueError(f"{label} must be integers, and nothing may be missing")
        return decode([io.BytesIO(content) for content in images.to_pylist()], labels.to_pylist(), str(path), info)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not a readable parquet file with columns {image} (struct with bytes) and {label}: "
            f"{first_line(error)}"
        ) from None


def folders_source(base: Path, part: Part, names: Mapping[Part, str], info: DataInfo) -> Source | None:
    """A folder for each class in those of the parts, `<part>/<class>/*` or `<part>/<class>/images/*`.

    Args:
        base: where to look.
        part: which split; both must have the same classes.
        names: of the parts' folders.
        info: what images and labels must agree with.

    Raises:
        UserError: other classes, or one without an image.
    """
    folders = {each: base / name for each, name in names.items()}
    if not all(folder.is_dir() for folder in folders.values()):
        return None
    classes = class_names(folders["train"], info)
    same = class_names(folders["test"], info) == classes
    require(same, f"{base}: {' and '.join(f'{name}/' for name in names.values())} have different class folders")
    found = LabelledFiles.of_folders(folders[part], classes)
    return Source(found.files, partial(found.decode, info))


def class_names(folder: Path, info: DataInfo) -> list[str]:
    """The classes that have a folder, as their labels go: by number where they are numbered, else by name.

    Raises:
        UserError: not as many as the data set has.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    known = info.num_classes
    require(len(names) == known, f"{folder} has {len(names)} class folders; {known} are wanted")
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


@dataclass(frozen=True)
class LabelledFiles:
    """Files of one image each.

    Attributes:
        files, labels: in the order of the samples.
        folder: that they lie in, for messages.
    """

    files: list[Path]
    labels: list[int]
    folder: Path

    @classmethod
    def of_folders(cls, folder: Path, classes: Sequence[str]) -> LabelledFiles:
        """Those in folders of classes, or in a folder `images` there.

        Raises:
            UserError: there is none of a class.
        """
        files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            inner = folder / name / "images"
            found = sorted((inner if inner.is_dir() else folder / name).glob("[!.]*"))
            require(bool(found), f"{folder / name} holds no image")
            files += found
            labels += [label] * len(found)
        return cls(files, labels, folder)

    def decode(self, info: DataInfo) -> Split:
        """The images, as of `decode`."""
        return decode(self.files, self.labels, str(self.folder), info)


def decode(files: Sequence[Any], labels: Sequence[int], where: str, info: DataInfo) -> Split:
    """Encoded images, in order, to a split. Pillow decodes outside Python's lock, so threads help.

    Raises:
        UserError: a damaged image, or one of another size; labels that there cannot be.
    """
    if not files or min(labels) < 0 or max(labels) >= info.num_classes:
        raise UserError(f"{where}: labels must be 0 to {info.num_classes - 1}, with at least one image")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            images = list(pool.map(lambda file: _decode_one(file, info.side), files, chunksize=256))
        except ValueError as error:
            raise UserError(f"{where} holds a damaged image: {error}") from None
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(stacked, torch.tensor(labels, dtype=torch.int64))


def _decode_one(file: Any, side: int) -> np.ndarray:
    """Raises ValueError, which names a file by its path, where an image is damaged or of another size."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.verify()  # a PNG has checksums, which decoding does not look at
        with Image.open(file) as image:
            if image.size != (side, side):  # known before anything is decoded
                raise ValueError(f"an image of {image.width} × {image.height} instead of {side} × {side}")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        name = f"{file}: " if isinstance(file, Path) else ""
        raise ValueError(f"{name}{first_line(error)}") from None
