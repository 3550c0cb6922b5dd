"""What there is: the listing that a command without arguments prints, generated from the registries."""

from __future__ import annotations

import textwrap

from benchmarks import data, models
from benchmarks.cli import Command
from benchmarks.help import WIDTH
from benchmarks.pairs import PAIRS
from methods import available, get


def overview(command: Command) -> str:
    """Methods with their papers, pairs, networks, data sets and examples."""
    lines = [f"python -m {command.name}: {command.summary}", "", "Methods (method=…):"]
    for method in available():
        cls = get(method)
        reference = (
            f" ({cls.reference.authors}, {cls.reference.venue} {cls.reference.year})" if cls.reference else ""
        )
        lines.append(f"  {method:10} {cls.summary}{reference}")
    lines += ["", "Pairs (pair=…):"]
    lines += [f"  {pair:22} {teacher} teaches {student}" for pair, (teacher, student) in PAIRS.items()]
    lines += [f"  {'custom':22} any two networks: pair.teacher=… pair.student=…", "", "Networks:"]
    lines += textwrap.wrap(", ".join(models.available()), WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines += ["", "Data sets (data=…):"]
    lines += [f"  {entry:12} {info.summary}" for entry, info in data.INFO.items()]
    lines += ["", "Examples:", *(f"  {example}" for example in command.examples)]
    lines += ["", f"python -m {command.name} help shows all settings, method=NAME help those of a method."]
    return "\n".join(lines)
