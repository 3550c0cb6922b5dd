"""Which runs a table or a figure may put together, and which it leaves out and why.

Runs share a cell when nothing distinguishes them but seed, machine and version of the code around the method: one
protocol, one pair under one teacher and learning rate, one method with one set of settings. Where a label stands
for several methods or settings, or for a method whose file was changed between runs, or a file of the student
network or the data set was, each gets a row of its own that names them, but for the method as it is usual, which
keeps its name; where a pair was run with several teachers or rates, each gets a column of its own, but not where
the teachers differ as the seeds do: a seed stands for both then.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.configs import SGD, get, method_code_of, network_code_of, printable, settings_of, unusual_of
from benchmarks import metrics
from benchmarks.errors import UserError
from methods import unknown

OPTIMIZER = "train.optimizer"  # the setting of another optimiser than everybody's
# What stands for a version in a row's name: of a method's own file, and of the files of network and data set.
CODE, NETWORK = "code", "network/data"
METHOD = "method"  # what stands there for the method, where a label is of several
CELL = ("protocol", "column", "row")
# Columns of the runs that cells have too.
KEPT = ("pair", "teacher", "student", "data", "split", "method", "label", "variant", "asked", "teacher_sha256")


@dataclass(frozen=True)
class Selection:
    """The runs that count, by cell.

    Attributes:
        cells: a row for each run in each of its cells: `protocol`, `column`, `row`, `seed`, `value` (top-1 in
            percent, or another measure), `run_id`, and `pair`, `teacher`, `student`, `data`, `split`, `method`,
            `label`, `variant` (the row but for versions of the code), `teacher_sha256`, `asked` (the row's place
            among the methods that were asked for). A student alone is under every teacher of its pair, since it
            has none.
        excluded: what was left out: `run_id` and `reason`.
    """

    cells: pd.DataFrame
    excluded: pd.DataFrame


def select(
    runs: pd.DataFrame,
    *,
    epoch: str = "last",
    measure: str = "top1",
    methods: Sequence[str] = (),
    variants: bool = True,
    pairs: Sequence[str] = (),
    protocol: str | None = None,
) -> Selection:
    """Sort runs into cells.

    Args:
        runs: the table of runs.
        epoch: "last", or "best" of the evaluation, which flatters.
        measure: what of the last epoch's evaluation counts, as it is logged.
        methods: labels, names of methods, or rows of a label that has several, such as `kd (temperature=8.0)`, to
            take, and the order of their rows; all unless given.
        variants: whether a method's name, or none at all, takes its runs with a label of their own, too, and those
            with other settings than the usual ones beside those with these.
        pairs: likewise, by name.
        protocol: a part of the protocol's text, which only one must have; all unless given.

    Raises:
        UserError: a name that no run has, or a protocol that none or several of the complete runs are.
    """
    runs = _asked(runs, methods, pairs, variants)
    what = f"top1_{epoch}" if measure == "top1" else measure
    runs = runs.assign(value=runs[what] if measure == "top1" else _last(runs, measure))
    rows = zip(runs.index, runs.to_dict("records"), strict=True)
    reasons = {run_id: reason for run_id, run in rows if (reason := _unfit(run, what))}
    fit = runs.drop(index=list(reasons))
    if protocol is not None and not fit.empty:  # of none, each run has its reason already
        chosen = choose(protocol, fit["protocol"].unique())
        reasons |= {
            run_id: f"another protocol: {other}" for run_id, other in fit["protocol"].items() if other != chosen
        }
        fit = fit[fit["protocol"] == chosen]
    cells = _with_rows(_with_columns(fit))
    cells = _in_rows(cells if variants else _without_variants(cells, methods), runs, methods, variants)
    latest, doubles = _one_a_seed(cells)
    excluded = pd.DataFrame(sorted((reasons | doubles).items()), columns=["run_id", "reason"], dtype=object)
    return Selection(latest, excluded)


def _asked(runs: pd.DataFrame, methods: Sequence[str], pairs: Sequence[str], variants: bool) -> pd.DataFrame:
    """The runs of these names; where a row is named, all of its label, since rows are not known yet."""
    named = ("label", "method") if variants else ("label",)
    if not (variants or methods):
        # What is no run of this suite has neither, and stays, to be listed as such.
        runs = runs[(runs["label"] == runs["method"]) | runs["method"].isna()]
    for kind, wanted, names in (("method", methods, named), ("pair", pairs, ("pair",))):
        if wanted:
            there = {name for column in names for name in runs[column].dropna()}
            taken = runs[list(names)].isin(set(wanted)).any(axis=1)
            for name in wanted:
                if name not in there:
                    labels = [label for label in there if name.startswith(f"{printable(label)} (")]
                    if kind == "pair" or not labels:
                        raise UserError(f"{kind}s: " + unknown(f"{kind} in these logs", name, sorted(there)))
                    taken |= runs["label"].isin(labels)
            runs = runs[taken]
    return runs


def _without_variants(cells: pd.DataFrame, named: Sequence[str]) -> pd.DataFrame:
    """Less the rows of a label beside which it stands by itself, unless they are named."""
    plain = cells["variant"] == cells["label"].map(printable)
    beside = plain.groupby([cells["protocol"], cells["label"]]).transform("any") if len(cells) else plain
    return cells[plain | ~beside | cells["row"].isin(set(named))]


def _in_rows(cells: pd.DataFrame, runs: pd.DataFrame, methods: Sequence[str], variants: bool) -> pd.DataFrame:
    """Those in the rows that were asked for, by their own names or by those of their runs, with their places."""
    if not methods or cells.empty:
        return cells.assign(asked=0)
    known = {*cells["row"], *runs["label"], *runs["method"]}
    for name in methods:
        if name not in known:
            raise UserError("methods: " + unknown("row in these logs", name, sorted(cells["row"].unique())))
    places = {name: methods.index(name) for name in methods}
    names = ["row", "label", "method"] if variants else ["row", "label"]
    # A row that is asked for by its own name stands in its own place, not in its method's.
    asked = cells[names].apply(lambda names: names.map(places)).bfill(axis=1)["row"]
    return cells.assign(asked=asked).dropna(subset="asked")


def _last(runs: pd.DataFrame, measure: str) -> pd.Series:
    """What the last epoch's evaluation gave; NaN where it gave none."""
    found = [
        summary.get(metrics.evaluation(split, measure))
        for summary, split in zip(runs["summary"], runs["split"], strict=True)
    ]
    return pd.to_numeric(pd.Series(found, index=runs.index, dtype=object), errors="coerce").astype(float)


def _unfit(run: Mapping[Hashable, Any], what: str) -> str:
    """Why a run has no place in a table; nothing where it has."""
    if any(pd.isna(run[name]) for name in ("pair", "method", "teacher", "student", "seed")):
        return "no run of this suite: its configuration names no pair, method or seed"
    if run["state"] != "complete":
        failure = run["summary"].get("failure")
        return f"{run['state']}: {failure}" if failure else str(run["state"])
    return f"no {what} in its summary" if pd.isna(run["value"]) else ""


def choose(protocol: str, there: Iterable[str]) -> str:
    """The one protocol whose text is `protocol` or has it in it.

    Raises:
        UserError: there is none, or more than one.
    """
    there = sorted(there)
    found = [protocol] if protocol in there else [text for text in there if protocol in text]
    if len(found) == 1:
        return found[0]
    what = "several protocols have this in their names" if found else "no protocol has this in its name"
    raise UserError(f"protocol={protocol}: {what}\n  " + "\n  ".join(found or there))


def _with_columns(runs: pd.DataFrame) -> pd.DataFrame:
    """Each run with its column; a student alone once for each teacher of its pair."""
    parts = [_columns_of(group) for _, group in runs.groupby(["protocol", "pair"], sort=False)]
    return pd.concat(parts) if parts else runs.assign(column=[])


def _columns_of(runs: pd.DataFrame) -> pd.DataFrame:
    rates = runs["config"].map(lambda config: get(config, "train", "lr"))
    runs = runs.assign(column=runs["pair"].map(printable))
    if rates.nunique() > 1:
        runs["column"] += rates.map(" lr {}".format)
    return pd.concat([_under_each_teacher(group) for _, group in runs.groupby("column", sort=False)])


def _under_each_teacher(runs: pd.DataFrame) -> pd.DataFrame:
    taught = runs.dropna(subset="teacher_sha256")
    teachers = list(taught["teacher_sha256"].unique())
    if len(teachers) < 2 or _of_each_seed(taught):
        return runs
    parts = []
    for sha256 in teachers:
        under = runs[runs["teacher_sha256"].isna() | (runs["teacher_sha256"] == sha256)]
        parts.append(under.assign(column=under["column"] + f" teacher {sha256[:6]}"))
    return pd.concat(parts)


def _of_each_seed(taught: pd.DataFrame) -> bool:
    """Whether each seed has a teacher of its own, trained here and alike but for its seed."""
    told = [get(config, "teacher") for config in taught["config"]]
    seeds = [get(each, "seed") for each in told]
    known = None not in seeds and not any(get(each, "checkpoint") for each in told)
    alike = len({get(each, "epochs") for each in told}) == 1
    triples = set(zip(taught["seed"], seeds, taught["teacher_sha256"], strict=True))
    return known and alike and all(len(set(each)) == len(triples) for each in zip(*triples, strict=True))


def _with_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Each run with its variant, which is its label, the settings in which runs of that label differ within a
    column, and the method where they are of several; and with its row, which names the version of the code, too,
    where there are several.

    Those of a method as it is usual bear its name alone.
    """
    variants, names = (pd.Series("", index=range(len(runs)), dtype=object) for _ in range(2))
    runs = runs.reset_index()
    settings = runs["config"].map(settings_of)
    optimizers = settings.map(lambda told: told.get(OPTIMIZER, SGD))
    codes, networks = (
        pd.Series(map(version_of, runs["config"]), dtype=object) for version_of in (method_code_of, network_code_of)
    )
    for (_, label, optimizer), group in runs.groupby(["protocol", "label", optimizers], sort=False):
        # Another optimiser never passes for the usual one, even where nothing differs from it.
        named = set() if optimizer == SGD else {OPTIMIZER}
        varying = named.union(*(_differing(settings[cell.index]) for _, cell in group.groupby("column")))
        usual = _usual(group, settings)
        several = group["method"].nunique() > 1
        edited = codes[group.index].groupby(group["method"]).transform("nunique") > 1
        # Another column may be of another network, which is no other version of this one.
        changed = networks[group.index].groupby(group["column"]).transform("nunique") > 1
        for place in group.index:
            told = {key: settings[place].get(key) for key in sorted(named if place in usual else varying)}
            told |= {METHOD: group["method"][place]} if several and place not in usual else {}
            variants[place] = _row_name(str(label), told)
            told |= {CODE: codes[place]} if edited[place] else {}
            told |= {NETWORK: networks[place]} if changed[place] else {}
            names[place] = _row_name(str(label), told)
    return runs.assign(variant=variants, row=names)


def _usual(runs: pd.DataFrame, settings: pd.Series) -> set[Hashable]:
    """The runs of a label that are a method by its own name and as it is usual; older logs do not say.

    None where these differ within a column: what is usual has changed meanwhile.
    """
    usual = runs[(runs["label"] == runs["method"]) & runs["config"].map(lambda config: unusual_of(config) == ())]
    changed = any(_differing(settings[cell.index]) for _, cell in usual.groupby("column"))
    return set() if changed else set(usual.index)


def _differing(settings: Iterable[Mapping[str, str]]) -> set[str]:
    settings = list(settings)
    keys = {key for each in settings for key in each}
    return {key for key in keys if len({each.get(key) for each in settings}) > 1}


def _row_name(label: str, told: Mapping[str, str | None]) -> str:
    words = ", ".join(f"{key}={value or '–'}" for key, value in told.items())
    return printable(f"{label} ({words})" if words else label)


def _one_a_seed(cells: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The latest attempt of each seed in each cell, and why the others do not count."""
    ordered = cells.sort_values(["attempt", "created", "run_id"], kind="stable", na_position="first")
    older = ordered.duplicated([*CELL, "seed"], keep="last")
    latest = ordered[~older]
    place = [*CELL, "seed", "run_id"]
    counting = {tuple(where): run_id for *where, run_id in latest[place].itertuples(index=False)}
    doubles = {
        run_id: f"seed {where[-1]} was run again: {counting[tuple(where)]} is the latest"
        for *where, run_id in ordered.loc[older, place].itertuples(index=False)
    }
    order = [*CELL, "seed", "value", "run_id"]
    return latest[[*order, *KEPT]].sort_values(order, ignore_index=True), doubles
