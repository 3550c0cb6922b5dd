"""How all commands run: words `key=value` composed by Hydra, help and exit statuses.

Hydra's own `main` ends every configuration error with status 1, may print tracebacks and writes folders; so this
uses its composition only, and turns its errors into messages that name key, value and what would do, with status 2.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from benchmarks.errors import Interrupted, RunFailed, UserError, first_line
from benchmarks.help import chosen_text, help_text
from benchmarks.overrides import parse, preset_words, unquoted, word_of
from methods import BrokenMethod, InvalidSetting, unknown

USAGE, FAILURE = 2, 1
REFUSALS = (HydraException, OmegaConfBaseException, AssertionError)  # by which Hydra and OmegaConf refuse a setting
Groups = Mapping[str, Mapping[str, Any]]  # as of `Command.groups`
PASSWORD = re.compile(r"(://[^\s:/@]*):\S*@")  # in a URL; messages quote what was typed


@dataclass(frozen=True)
class Verb:
    """Something else that a command does: `run` as of `Command`, and the keys that it goes by."""

    run: Callable[[DictConfig, frozenset[str]], int]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command of the suite.

    Attributes:
        name: as typed behind `python -m`.
        summary: one line.
        examples: complete command lines.
        config: its configuration dataclass.
        run: does the work, given the composed configuration; returns the exit status.
        groups: makes, for each choice such as `pair=`: option name to configuration object, or to a mapping of
            settings for the whole command, merged before those typed (Hydra's package `_global_`). It is called
            when the command runs, which can then say which method's or data set's file is broken.
        defaults: options that are chosen unless said otherwise; of other groups none is.
        overview: what is printed for the bare command, given this; None: it runs.
        verbs: other things that it does, by the word that is typed for them, wherever it stands.
        lists: what another command takes several of, with its name: `{"seeds": "benchmarks.suite"}` for `seed`.
    """

    name: str
    summary: str
    examples: tuple[str, ...]
    config: type
    run: Callable[[DictConfig, frozenset[str]], int]
    groups: Callable[[], Groups] = dict
    defaults: Mapping[str, str] = field(default_factory=dict)
    overview: Callable[[Command], str] | None = None
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)


def main(command: Command, argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was while this was imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.raiseExceptions = False  # W&B's own log on a full disk would print a traceback for each of its lines
    arguments = list(sys.argv[1:] if argv is None else argv)
    return status_of(lambda: _run(command, arguments))


def _run(command: Command, arguments: list[str]) -> int:
    if not arguments and command.overview:
        print(command.overview(command))
        return 0
    name = next((word for word in arguments if word in command.verbs), None)
    words = [word for word in arguments if word != name]
    if {"--help", "-h", "help"} & set(words):
        print(_help(command, [word for word in words if word not in ("--help", "-h", "help")]))
        return 0
    config, given = compose_config(command, words)
    if name is None:
        return command.run(config, given)
    verb = command.verbs[name]
    for key in sorted(given - {*verb.keys}):
        raise UserError(f"{key}= has no effect on {name}, which goes by {' and '.join(f'{k}=' for k in verb.keys)}")
    return verb.run(config, given)


def status_of(work: Callable[[], int]) -> int:
    """The exit status of `work`; where it cannot do what was asked, it is said why."""
    try:
        return work()
    except (UserError, InvalidSetting, BrokenMethod) as error:
        return _end(f"error: {error}", USAGE)
    except RunFailed as error:
        return _end(f"failed: {error}", FAILURE)
    except Interrupted as error:
        return _end("", 128 + error.signum)
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe has gone
        sys.stderr.close()
        return 141


def _end(message: str, status: int) -> int:
    if message:
        print(PASSWORD.sub(r"\1:***@", message), file=sys.stderr)
    return status


def _help(command: Command, arguments: list[str]) -> str:
    composed, given = compose_config(command, arguments)
    groups = command.groups()
    if chosen := chosen_text(command, groups, composed, given):
        return chosen
    return help_text(command, groups, composed)


def compose_config(command: Command, arguments: Sequence[str]) -> tuple[DictConfig, frozenset[str]]:
    """The configuration of a command line, and the keys that were set, by a preset or by hand.

    Raises:
        UserError: anything wrong with the line.
    """
    groups = command.groups()  # once: it makes every method's defaults
    given = {override.key_or_group: override for override in parse(arguments)}
    preset = given.pop("preset", None)
    words = preset_words(Path(str(unquoted(preset.value())))) if preset else []
    merged = parse([word for word in words if word.split("=", 1)[0] not in given]) + list(given.values())
    _refuse_beside_list(groups, merged)
    for override in merged:
        _check(command, groups, override)
    # A group's option comes before the settings in it.
    merged.sort(key=lambda override: override.key_or_group not in groups)
    config = _compose(command, groups, merged)
    return config, frozenset(override.key_or_group for override in merged)


def _refuse_beside_list(groups: Groups, overrides: Sequence[Override]) -> None:
    """A method's setting belongs into the list of methods, where there is one."""
    typed = {override.key_or_group: override for override in overrides}
    listed = typed["methods"].value() if "methods" in typed and "method" not in typed else None
    for key, override in typed.items():
        if isinstance(listed, list) and key.startswith("method."):
            setting, value = key.removeprefix("method."), word_of(override).partition("=")[2]
            entry = f"{{name: {_owner(groups, listed, setting)}, {_nested(setting, value)}}}"
            raise UserError(f"{key}={value} beside methods=[…]: write it within the list, as {entry}")


def _owner(groups: Groups, listed: Sequence[Any], setting: str) -> str:
    """The first method of a list that has a setting; an ellipsis where that is not known here."""
    options = groups.get("method", {})
    names = [str(unquoted(entry.get("name") if isinstance(entry, dict) else entry)) for entry in listed]
    owners = (name for name in names if name in options and setting in leaves(OmegaConf.structured(options[name])))
    return next(owners, "…")


def _nested(key: str, value: str) -> str:
    """A dotted key and its value as within a mapping."""
    first, _, rest = key.partition(".")
    return f"{first}: {{{_nested(rest, value)}}}" if rest else f"{first}: {value}"


def _check(command: Command, groups: Groups, override: Override) -> None:
    """Refuse an option that no group has and a key that no field has, with the closest ones."""
    key = override.key_or_group
    valid = {field.name for field in dataclasses.fields(command.config)} | {"preset"}
    several = key if key in command.lists else f"{key}s"
    listed = several in command.lists or (key in groups and several in valid)
    if listed and isinstance(override.value(), list):
        value = word_of(override).partition("=")[2]
        elsewhere = f"python -m {command.lists[several]} … " if several in command.lists else ""
        raise UserError(f"{key}={value}: one at a time; several: {elsewhere}'{several}={value}'")
    if key in groups:
        option = unquoted(override.value())
        if str(option) not in groups[key]:
            any_two = (
                "\n  any two networks: pair=custom pair.teacher=NAME pair.student=NAME" if key == "pair" else ""
            )
            raise UserError(unknown(key, str(option), groups[key]) + any_two)
        return
    first, _, rest = key.partition(".")
    if first not in valid:
        sections = _sections_with(command, groups, key)
        meant = f"\n  within a section: {', '.join(sections)}" if sections else ""
        raise UserError(unknown("key", key, sorted(valid)) + meant)
    if rest.split(".")[0] == "name" and first in groups:
        raise UserError(f"{key} cannot be set: choose with {first}=…")


def _sections_with(command: Command, groups: Groups, key: str) -> list[str]:
    """A key that was typed without its section, with each that has it."""
    chosen = [
        f"{group}.{key}"
        for group, options in groups.items()
        if any(
            not isinstance(one, Mapping) and key in leaves(OmegaConf.structured(one)) for one in options.values()
        )
    ]
    return chosen + [name for name in leaves(OmegaConf.structured(command.config)) if name.endswith(f".{key}")]


def _compose(command: Command, groups: Groups, overrides: Sequence[Override]) -> DictConfig:
    with _registered(command, groups, overrides):
        try:
            config = _by_hydra(command, overrides)
        except REFUSALS as error:
            raise UserError(_explain(command, groups, overrides, error)) from None
    check_lists(config)
    return config


def _by_hydra(command: Command, overrides: Sequence[Override]) -> DictConfig:
    """Hydra's composition of a command whose schema is registered; it raises `REFUSALS`."""
    # Of a module that Hydra reads anyway: to find its caller's, it would search all that are loaded.
    with initialize_config_module("hydra.conf", version_base=None):
        return compose(command.name, overrides=[word_of(override) for override in overrides])


@contextlib.contextmanager
def _registered(command: Command, groups: Groups, overrides: Sequence[Override]) -> Iterator[None]:
    """Within it Hydra knows the command's schema and nothing else.

    Its own part, of logging and launchers, takes as long again, and all that it knows it copies each time.
    """
    store = ConfigStore.instance()
    usual, store.repo = store.repo, {}
    try:
        store.store("config", HydraConf(defaults=[]), "hydra")
        _store(command, groups, overrides)
        yield
    finally:
        store.repo = usual


def check_lists(config: DictConfig) -> None:
    """Refuse a list in a list of numbers or words: an empty one passes for any type.

    Raises:
        UserError: there is one.
    """
    for key in leaves(config):
        _check_list(key, OmegaConf.select(config, key))


def _check_list(key: str, value: Any) -> None:
    if not isinstance(value, ListConfig):
        return
    kind = value._metadata.element_type
    if kind in (bool, int, float, str) and any(OmegaConf.is_config(element) for element in value):
        raise UserError(f"{key}={value}: expected a list of {kind.__name__}")
    for element in value:
        _check_list(key, element)


def _explain(command: Command, groups: Groups, overrides: Sequence[Override], error: BaseException) -> str:
    """Which override was at fault, and what is wrong with it."""
    failures: dict[int, BaseException] = {len(overrides): error}

    def fails(count: int) -> bool:
        """Whether the first `count` overrides do not compose: with one that does not, no longer line does."""
        try:
            _by_hydra(command, overrides[:count])
        except REFUSALS as failure:
            failures[count] = failure
            return True
        return False

    count = bisect.bisect_left(range(len(overrides)), True, lo=1, key=fails)
    before = _by_hydra(command, overrides[: count - 1])
    return _explain_one(groups, before, overrides[count - 1], failures[count])


def _explain_one(groups: Groups, before: DictConfig, culprit: Override, failure: BaseException) -> str:
    """What is wrong with an override of what was composed before it."""
    key, valid = culprit.key_or_group, leaves(before)
    if key not in valid:
        group = key.split(".")[0]
        if group in groups and not any(name.startswith(f"{group}.") for name in valid):
            return f"{key}: choose {group}=… first ({', '.join(groups[group])})"
        fixed = {f"{group}.name" for group in groups}
        settable = [name for name in valid if name not in fixed]
        siblings = [name for name in settable if name.startswith(key.rpartition(".")[0] + ".")]
        return unknown("key", key, siblings or settable)
    value = unquoted(culprit.value())
    if _is_list(before, key) and not isinstance(value, list):
        return f"{key}={value}: a list is expected, as '{key}=[{value}]'"
    return f"{key}={value}: {first_line(failure.__cause__ or failure)}"


def _is_list(config: DictConfig, key: str) -> bool:
    """Whether a setting takes a list, which may have no value yet."""
    parent, _, name = key.rpartition(".")
    section = OmegaConf.select(config, parent) if parent else config
    return isinstance(section._get_node(name), ListConfig)


def leaves(config: DictConfig, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    names = []
    for key in map(str, config):
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and len(node):
            names += leaves(node, f"{prefix}{key}.")
        else:
            names.append(f"{prefix}{key}")
    return names


def _store(command: Command, groups: Groups, overrides: Sequence[Override]) -> None:
    """Register the command's schema with Hydra, and of each group what is chosen: all of them take long to make.

    Its default, too: `_explain` composes the beginnings of a line, where it is not replaced yet.
    """
    store = ConfigStore.instance()
    root = thawed(OmegaConf.structured(command.config))
    with open_dict(root):
        root["defaults"] = ["_self_", *({group: command.defaults.get(group)} for group in groups)]
    store.store(name=command.name, node=root)
    typed = {override.key_or_group: str(unquoted(override.value())) for override in overrides}
    chosen = [(group, options.get(group)) for options in (command.defaults, typed) for group in groups]
    for group, name in chosen:
        if name is None:
            continue
        option = groups[group][name]
        if isinstance(option, Mapping):
            store.store(group=group, name=name, node=dict(option), package="_global_")
            # Settings for the whole command may choose of other groups: {"override /data": "digits"}.
            others = [other.items() for other in option.get("defaults", ()) if isinstance(other, Mapping)]
            chosen += [(key.rpartition("/")[2], value) for pairs in others for key, value in pairs]
        else:
            store.store(group=group, name=name, node=thawed(OmegaConf.structured(option)))


def thawed(node: Any) -> Any:
    """A structured node whose frozen dataclasses can still be composed; objects made of it are frozen."""
    node._set_flag("readonly", None)
    if isinstance(node, DictConfig):
        if not len(node):
            node._set_flag("struct", False)  # a mapping of whatever keys
        for key in node:
            child = node._get_node(key)
            if isinstance(child, Container) and not child._is_none() and not child._is_missing():
                thawed(child)
    return node
