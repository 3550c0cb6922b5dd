"""Streams of random numbers, each from (seed, purpose), so that one more draw somewhere changes nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """The seed of the stream for a purpose: 63 bits of a hash."""
    text = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a purpose."""
    return torch.Generator(device).manual_seed(derive(seed, *purpose))


@contextmanager
def global_stream(seed: int, *purpose: str | int) -> Iterator[None]:
    """Within it torch's global random numbers (what layers initialise from) are a stream; restored behind it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *purpose))
        yield
