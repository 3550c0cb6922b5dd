"""What a run's configuration says: its settings, protocol, machine and code.

Logs of other programs may hold anything, and older ones lack what newer ones say: what is not there is None.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.hashing import short_hash
from benchmarks.later import without_later
from benchmarks.words import counted

SGD = "sgd"  # everybody's optimiser
DATA_PLACES = {"root", "cache"}  # settings of where the data lie, which changes no result
DISTILLATION = {"optimizer", "delta"}  # settings of training that a student alone cannot have
# Where the protocol is configured, and what is no part of it there: what a run computes on, where its data lie, the
# learning rate, which is the student's and so the pair's, and what only distillation has, which tells rows apart.
PROTOCOL = {
    "train": {"device", "threads", "deterministic", "compile", "graph", "lr"} | DISTILLATION,
    "data": DATA_PLACES,
}


def get(content: Any, *path: str) -> Any:
    """A value deep in nested mappings; None where there is no such place."""
    for key in path:
        content = _mapping(content).get(key)
    return content


def _mapping(content: Any) -> Mapping[str, Any]:
    """Itself if it is a mapping, else an empty one: runs of other programs may hold anything."""
    return content if isinstance(content, Mapping) else {}


def section_of(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section's settings, less those that came later and have their defaults: older logs lack them."""
    return without_later(section, _mapping(config.get(section)))


def without(content: Any, keys: Collection[str]) -> dict[str, Any]:
    """A mapping less some of its keys."""
    return {key: value for key, value in _mapping(content).items() if key not in keys}


def split_of(config: Mapping[str, Any]) -> str:
    """What a run was evaluated on: "val", a part of the training set, or "test"."""
    return "val" if get(config, "data", "validation") else "test"


def machine_of(config: Mapping[str, Any]) -> str:
    """What a run computed on, with what may change the last bits there, in words."""
    environment, train = _mapping(config.get("environment")), _mapping(config.get("train"))
    words = [str(environment.get("device"))]
    if train.get("device") == "cpu":
        capability = environment.get("cpu_capability")
        words = [f"{words[0]} ({capability})" if capability else words[0], counted(train.get("threads"), "thread")]
    words += ["deterministic"] if train.get("deterministic") else []
    return printable(", ".join(words))


def torch_of(config: Mapping[str, Any]) -> str | None:
    """The version of torch that a run computed with."""
    version = get(config, "environment", "libraries", "torch")
    return None if version is None else printable(str(version))


def _codes_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What computed a run: the versions of the code that began it, and the one that ended it."""
    return [*map(_mapping, get(config, "code", "before") or ()), _mapping(config.get("code"))]


def versions_of(config: Mapping[str, Any]) -> frozenset[Any]:
    """The versions of the code that computed a run, mostly one."""
    return frozenset(code.get("sources") for code in _codes_of(config))


def method_code_of(config: Mapping[str, Any]) -> str | None:
    """The version of the method's own file that computed a run, as `_version_of` tells it."""
    return _version_of(config, "method_sources")


def network_code_of(config: Mapping[str, Any]) -> str | None:
    """The version of the files of student network and data set that computed a run, as `_version_of` tells it."""
    return _version_of(config, "network_sources")


def _version_of(config: Mapping[str, Any], files: str) -> str | None:
    """The version of some files that computed a run, in a few letters; older logs do not say.

    Where they were changed while the run was interrupted, all versions, joined by "+".
    """
    found = [str(code[files])[:6] for code in _codes_of(config) if code.get(files)]
    return "+".join(dict.fromkeys(found)) or None


def unusual_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What a run's method and loss weights were told beyond the usual, as typed; None in older logs."""
    told = config.get("unusual")
    return tuple(map(str, told)) if isinstance(told, list | tuple) else None


def protocol_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The part of a configuration that must agree before two runs may be averaged or compared.

    Method, loss weights, pair, seed, and the machine are left out; so are teacher and learning rate, which are
    the pair's, and what only distillation has: the student alone is compared with it all the same.
    """
    return {section: without(section_of(config, section), apart) for section, apart in PROTOCOL.items()}


def protocol(config: Mapping[str, Any]) -> str:
    """The protocol in a few words and a hash."""
    content = protocol_of(config)
    train = content["train"]
    words = [str(get(config, "data", "name")), split_of(config), counted(train.get("epochs"), "epoch")]
    words += [f"of {counted(train['max_steps'], 'step')}"] if train.get("max_steps") else []
    words += [f"{train['schedule']} lr"] if train.get("schedule") else []
    words += [str(train["precision"])] if train.get("precision") else []
    return printable(f"{' '.join(words)} {short_hash(content, 6)}")


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """What a method was told, by the keys of the command line behind `method.`.

    With its loss schedule and, where that is not SGD, the optimiser that keeps its gradients apart.
    """
    flat: dict[str, str] = {}
    _flatten(section_of(config, "method"), "", flat)
    _flatten(section_of(config, "loss"), "loss.", flat)
    if get(config, "train", "optimizer") not in (None, SGD):
        _flatten({key: get(config, "train", key) for key in sorted(DISTILLATION)}, "train.", flat)
    return {key: value for key, value in flat.items() if key not in ("name", "label")}


def _flatten(content: Any, prefix: str, flat: dict[str, str]) -> None:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            _flatten(value, f"{prefix}{key}.", flat)
    elif content is not None and prefix:
        flat[prefix[:-1]] = json.dumps(content, separators=(",", ":")).strip('"')


def printable(name: str) -> str:
    """A name without control characters, which could do anything to a terminal or a file."""
    return "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in name)
