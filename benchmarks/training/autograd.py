"""Autograd's graph of what tensors were computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def leaves_from(node: Any) -> set[Tensor]:
    """The leaves that want a gradient, of the graph behind a node; None has none."""
    return {each.variable for each in nodes_from([node]) if hasattr(each, "variable")}


def leaves_by_term(losses: Tensor) -> list[set[Tensor]]:
    """For each of the terms, stacked to `losses`, what learns by it."""
    return [leaves_from(node) for node, _ in losses.grad_fn.next_functions] if losses.grad_fn else []


def nodes_from(nodes: Iterable[Any]) -> Iterator[Any]:
    """These nodes but None, and every one behind them, once; a leaf's has it as its `variable`."""
    todo, seen = list(nodes), {None}
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]
