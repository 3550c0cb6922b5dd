"""`python -m benchmarks.throughput`: how fast this suite trains, against a plain loop in the same process."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks import groups
from benchmarks.cli import Command, main
from benchmarks.clock import milliseconds
from benchmarks.config import plain
from benchmarks.console import make_console, make_table
from benchmarks.distillation import Distillation
from benchmarks.files import check_file, write_json
from benchmarks.identity import code_version, environment
from benchmarks.overview import overview
from benchmarks.protocol import resolve
from benchmarks.rounds import Rounds, Throughput, ThroughputConfig
from benchmarks.training.device import device_name
from benchmarks.training.kernels import KINDS, OTHERS, Share, by_kind, kernels, total
from benchmarks.training.stopwatch import launched_step, matrix_product_peak, operations, parts
from benchmarks.words import counted
from benchmarks.workbench import open_workbench


def execute(typed: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    config, variants = resolve(typed, given)
    assert isinstance(config, ThroughputConfig)
    console = make_console()
    distillation = Distillation(config, variants, console)
    if config.out:
        check_file("out", Path(config.out))
    bench = Throughput(config, distillation, open_workbench(config, console))
    console.print(
        f"{config.pair.name} on {config.data.name}, batch {config.train.batch_size}, ours in "
        f"{config.train.precision}, on {device_name(config.train)}; "
        f"{counted(config.repeats, 'round')} of {counted(config.steps, 'step')}"
    )
    if bench.teaching.table is not None:
        console.print(f"teacher.views={config.teacher.views}: what the teacher shows in the steps of ours is known")
    rounds = bench.rounds()
    _print_rates(console, bench, rounds)
    shares = _print_parts(console, bench, rounds)
    found = _print_kernels(console, bench) if config.kernels else {}
    for name, notices in bench.notices.items():
        for notice in notices:
            console.print(f"note: {name}: {notice.removeprefix('note: ')}")
    if config.out:
        _write(Path(config.out), bench, rounds, shares, found)
        console.print(f"raw figures: {config.out}")
    return 0


def _print_rates(console: Console, bench: Throughput, rounds: Rounds) -> None:
    batch, size = bench.config.train.batch_size, len(bench.students)
    ways = ("plain loop", "ours alone", "ratio", f"in the cohort of {size}", "ratio")
    table = make_table("images/s per student", numbers=ways)
    share = [step / size for step in rounds.cohort]
    for label in bench.alone:
        slow, fast = rounds.plain[label], rounds.alone[label]
        table.add_row(
            label,
            _rate(slow, batch),
            _rate(fast, batch),
            _ratio(slow, fast),
            _rate(share, batch),
            _ratio(slow, share),
        )
    console.print(table)
    console.print("ratios to the method's own plain loop: median over the rounds, and their range")
    console.print(f"DataLoader workers of the plain loops: {bench.workers}")


def _rate(times: list[float], batch_size: int) -> str:
    return f"{batch_size / statistics.median(times):.0f}"


def _ratio(slow: list[float], fast: list[float]) -> str:
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _print_parts(console: Console, bench: Throughput, rounds: Rounds) -> dict[str, dict[str, float]]:
    """Where a step of ours goes, and how near it comes to the device's matrix products; returns the figures."""
    dtype = torch.bfloat16 if bench.config.train.precision == "bf16" else torch.float32
    peak = matrix_product_peak(bench.device, dtype)
    columns = ("data", "teacher", "student", "optimiser", "method")
    table = make_table("ours alone, % of a step", numbers=(*columns, "ms", "GFLOP", "% of peak"))
    figures = {}
    for label, loop in bench.alone.items():
        step, count = statistics.median(rounds.alone[label]), operations(loop)
        spent = parts(loop, bench.config.steps)
        launched = step if loop.launch.graphs is None else launched_step(loop, bench.config.steps)
        spent["method"] = launched - sum(spent.values())
        figures[label] = spent | {"launched": launched, "step": step, "operations": count, "peak": peak}
        table.add_row(
            label,
            *(f"{100 * spent[name] / launched:.0f}" for name in columns),
            milliseconds(step).removesuffix(" ms"),
            f"{count / 1e9:.1f}",
            f"{100 * count / step / peak:.0f}",
        )
    console.print(table)
    if any(loop.launch.graphs for loop in bench.alone.values()):
        console.print("parts are of steps launched kernel by kernel: replayed ones can be measured as a whole only")
    console.print(
        "each part was measured by itself; the method's is what remains of a step, and so takes in their noise; "
        f"peak: the best {str(dtype).removeprefix('torch.')} matrix product, {peak / 1e12:.2f} TFLOP/s"
    )
    return figures


def _print_kernels(console: Console, bench: Throughput) -> dict[str, dict[str, Share]]:
    """What each loop does in a step, by kinds of kernels; returns it by their names."""
    loops = bench.alone | {f"cohort of {len(bench.students)}": bench.cohort}
    found = {name: kernels(loop, bench.config.steps) for name, loop in loops.items()}
    kinds = {name: by_kind(each) for name, each in found.items()}
    table = make_table("kernels of a step, ms (number)", numbers=loops)
    for kind in (*KINDS, OTHERS):
        cells = [_share(each.get(kind)) for each in kinds.values()]
        if any(cells):
            table.add_row(kind, *cells)
    table.add_row("all", *(_share(total(each.values())) for each in kinds.values()))
    console.print(table)
    console.print("sums over the kernels, of which those of a cohort may pass side by side, and each longer for it")
    return found


def _share(share: Share | None) -> str:
    return "" if share is None else f"{1000 * share.seconds:.3f} ({share.count:.0f})"


def _write(
    path: Path,
    bench: Throughput,
    rounds: Rounds,
    shares: dict[str, dict[str, float]],
    found: dict[str, dict[str, Share]],
) -> None:
    write_json(
        path,
        {
            "config": plain(bench.config),
            "seconds_of_a_step": {"plain": rounds.plain, "alone": rounds.alone, "cohort": rounds.cohort},
            "workers": bench.workers,
            "parts": shares,
            "kernels": {loop: {name: vars(each) for name, each in by.items()} for loop, by in found.items()},
            "notices": bench.notices,
            "environment": environment(bench.device),
            "code": code_version(),
        },
    )


COMMAND = Command(
    name="benchmarks.throughput",
    summary="images per second of a plain loop, of this suite and of a cohort, measured by turns in one process",
    examples=(
        "python -m benchmarks.throughput pair=vgg13_vgg8 'methods=[kd,at,fitnet,crd,aftkd]'",
        "python -m benchmarks.throughput pair=vgg13_vgg8 method=kd data=digits repeats=3 out=throughput.json",
    ),
    config=ThroughputConfig,
    groups=groups.of_a_run,
    defaults=groups.DEFAULTS,
    run=execute,
    overview=overview,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
