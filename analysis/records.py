"""The records of a `.wandb` file: LevelDB's log format behind seven bytes of W&B's own.

A file is cut into blocks of 32 KiB. A record lies in one chunk, or in several where it crosses blocks; each chunk
has a header of checksum, length and kind. The checksum is the CRC-32 of kind and content, so that a damaged chunk
is noticed and left out, and reading goes on behind it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b":W&B"
PREAMBLE = 7  # the magic word, two bytes of LevelDB's, one of version
BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
SEEDS = [zlib.crc32(bytes([kind])) for kind in range(256)]


class NoLog(ValueError):
    """The file is no W&B log."""


@dataclass
class Losses:
    """What could not be read of a file.

    Attributes:
        damaged: chunks whose checksum, or records whose content, was wrong.
        truncated: the file ends in the middle of a record, as when a process was killed.
    """

    damaged: int = 0
    truncated: bool = False

    def __str__(self) -> str:
        parts = [f"damaged pieces left out: {self.damaged}"] if self.damaged else []
        parts += ["the end is cut off"] if self.truncated else []
        return ", ".join(parts)


def records(path: Path, losses: Losses) -> Iterator[bytes]:
    """The records of a file, each as the bytes of its protobuf message.

    Args:
        path: the file.
        losses: counts what is left out.

    Raises:
        NoLog: the file does not begin as a log.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise NoLog(f"{path} is not a W&B log: it does not begin with {MAGIC.decode()}")
    parts: list[bytes] | None = None  # of the record that is being put together
    for kind, data in _chunks(content, losses):
        if kind == WHOLE:
            parts = None
            yield data
        elif kind == FIRST:
            parts = [data]
        elif parts is not None and kind in (MIDDLE, LAST):
            parts.append(data)
            if kind == LAST:
                yield b"".join(parts)
                parts = None
        else:  # its beginning was damaged
            parts = None
    losses.truncated |= parts is not None


def _chunks(content: bytes, losses: Losses) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each chunk; kind 0 stands for a damaged one."""
    position, end = PREAMBLE, len(content)
    while position < end:
        left = BLOCK - position % BLOCK  # of the block
        if left < HEADER.size:
            position += left  # filled with zeros
            continue
        if position + HEADER.size > end:
            losses.truncated = True
            return
        checksum, length, kind = HEADER.unpack_from(content, position)
        start, position = position + HEADER.size, position + HEADER.size + length
        if kind == 0 or length > left - HEADER.size:  # nothing that was written: where it ends is not known
            losses.damaged += 1
            position = start - HEADER.size + left
            yield 0, b""
            continue
        if position > end:
            losses.truncated = True
            return
        data = content[start:position]
        if zlib.crc32(data, SEEDS[kind]) == checksum:
            yield kind, data
        else:
            losses.damaged += 1
            yield 0, b""
