"""Autograd's graph of what tensors were computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def leaves_from(node: Any) -> set[Tensor]:
    """The leaves that want a gradient, of the graph behind a node; None has none."""
    return {each.variable for each in nodes_from([node]) if hasattr(each, "variable")}


def nodes_from(nodes: Iterable[Any]) -> Iterator[Any]:
    """These nodes but None, and every one behind them, once; a leaf's has it as its `variable`."""
    todo, seen = list(nodes), {None}
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]
