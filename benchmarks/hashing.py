"""A hash of what JSON can say. Depends on nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def short_hash(content: Any, length: int = 10) -> str:
    """A hash of JSON-able content, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
