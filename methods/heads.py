"""Methods that read the networks' classifiers."""

from __future__ import annotations

import math

import torch
from torch import nn

from methods.base import ConfigT, Context, Method, Network


class HeadMethod(Method[ConfigT]):
    """A method that reads the teacher's classifier, of which it keeps a copy, and may read the student's.

    Attributes:
        weight, bias: the teacher's, `[K, D]` and `[K]`; the weights are not a number until it was looked at.
        head_student: the student's, alone in a tuple, so that it stays a part of the student; empty until then.
    """

    def __init__(self, config: ConfigT, context: Context) -> None:
        super().__init__(config, context)
        num_classes, width = context.teacher.logits, context.teacher.embedding
        self.weight = nn.Buffer(torch.full((num_classes, width), math.nan))
        self.bias = nn.Buffer(torch.zeros(num_classes))
        self.head_student: tuple[nn.Linear, ...] = ()

    def prepare(self, teacher: Network, student: Network) -> None:
        super().prepare(teacher, student)
        self.weight.copy_(teacher.head.weight.detach())
        if teacher.head.bias is not None:
            self.bias.copy_(teacher.head.bias.detach())
        self.head_student = (student.head,)
