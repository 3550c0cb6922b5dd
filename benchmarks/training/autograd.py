"""Autograd's graph of what tensors were computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def nodes_behind(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph that these tensors hang on, once; a leaf's has it as its `variable`."""
    todo: list[Any] = [tensor.grad_fn for tensor in tensors]
    seen = {None}
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]
