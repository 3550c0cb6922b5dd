"""What methods do about torch.compile."""

from __future__ import annotations

import torch


def leave_graph() -> None:
    """Let a compiled graph end here, before a memory moves that a loss reads.

    Within a graph, its backward pass would compute again from what has moved by then, and be wrong.
    """
    if torch.compiler.is_compiling():  # not `torch.compiler.disable`, which takes all who import it a second
        torch._dynamo.graph_break()
