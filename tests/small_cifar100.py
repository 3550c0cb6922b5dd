"""A small CIFAR-100 in every layout that the loader knows."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NUM_TRAIN, NUM_TEST = 200, 100


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Copy:
    """A small CIFAR-100: random images, 2 of each class to train on and 1 to test, in the order of the classes."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        sizes = {"train": NUM_TRAIN, "test": NUM_TEST}
        self.images = {
            part: generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for part, size in sizes.items()
        }
        self.labels = {part: np.arange(size) // (size // 100) for part, size in sizes.items()}
        self.pngs = {part: [png(image) for image in images] for part, images in self.images.items()}

    def table(self, part: str) -> pa.Table:
        images = [{"bytes": image, "path": f"{k}.png"} for k, image in enumerate(self.pngs[part])]
        labels = self.labels[part].tolist()
        return pa.table({"img": images, "fine_label": labels, "coarse_label": [label // 5 for label in labels]})

    def parquet(self, root: Path, num_shards: int = 0) -> None:
        root.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            table = self.table(part)
            if not num_shards:
                pq.write_table(table, root / f"{part}.parquet")
                continue
            size = -(-table.num_rows // num_shards)
            for k in range(num_shards):
                path = root / f"{part}-{k:05d}-of-{num_shards:05d}.parquet"
                pq.write_table(table.slice(k * size, size), path, row_group_size=7)

    def folders(self, root: Path) -> None:
        for part in ("train", "test"):
            for k, (image, label) in enumerate(zip(self.pngs[part], self.labels[part], strict=True)):
                path = root / part / f"class_{label:02d}" / f"{k:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image)

    def pickles(self, root: Path) -> dict[str, str]:
        """torchvision's files; returns their MD5 sums."""
        folder = root / "cifar-100-python"
        folder.mkdir(parents=True)
        contents: dict[str, Any] = {"meta": {"fine_label_names": [f"class_{k:02d}" for k in range(100)]}}
        for part in ("train", "test"):
            pixels = self.images[part].transpose(0, 3, 1, 2).reshape(-1, 3072)
            contents[part] = {"data": pixels, "fine_labels": self.labels[part].tolist()}
        for name, content in contents.items():
            (folder / name).write_bytes(pickle.dumps(content))
        return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in contents}
