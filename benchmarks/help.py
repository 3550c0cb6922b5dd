"""Help, generated from the fields of the configuration dataclasses."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Container, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from methods import default_of

if TYPE_CHECKING:
    from benchmarks.cli import Command

WIDTH = 100


def help_text(command: Command, groups: Mapping[str, Mapping[str, Any]], composed: DictConfig) -> str:
    """Every setting of a command with meaning, default and source; of the groups that have a default, too."""
    lines = [f"python -m {command.name} key=value …", "", *textwrap.wrap(command.summary, WIDTH), "", "Examples:"]
    lines += [f"  {example}" for example in command.examples]
    lines += ["", "Settings:"]
    lines += ["  preset", "      a YAML file of settings, merged before those typed"]
    lines += _fields(command.config, "", {}, groups)
    for field in dataclasses.fields(command.config):
        if dataclasses.is_dataclass(default_of(field)) or field.name in groups:
            lines += ["", *_section(field, groups, composed)]
    return "\n".join(lines)


def chosen_text(
    command: Command, groups: Mapping[str, Mapping[str, Any]], composed: DictConfig, given: Container[str]
) -> str:
    """The settings of what was chosen, as by `method=kd`; nothing where that has none of its own."""
    lines = []
    for field in dataclasses.fields(command.config):
        if field.name in given and field.name in groups and not _is_of_the_command(groups[field.name]):
            lines += [*_section(field, groups, composed), ""]
    return "\n".join([*lines, f"python -m {command.name} help shows all other settings."]) if lines else ""


def _is_of_the_command(options: Mapping[str, Any]) -> bool:
    """Whether what can be chosen are settings of the whole command."""
    return all(isinstance(option, Mapping) for option in options.values())


def _section(
    field: dataclasses.Field[Any], groups: Mapping[str, Mapping[str, Any]], composed: DictConfig
) -> Iterator[str]:
    """The settings below one key."""
    if field.name not in groups:
        section = default_of(field)
        yield f"{field.name}.*: {field.metadata['help']}"
        yield from _fields(type(section), f"{field.name}.", {})
        return
    options = ", ".join(groups[field.name])
    yield from textwrap.wrap(
        f"{field.name}=…: {field.metadata['help']}; one of {options}", WIDTH, subsequent_indent="  "
    )
    chosen = composed[field.name]
    if _is_of_the_command(groups[field.name]):
        return
    if chosen is None:
        yield f"  with {field.name}=NAME help shows its settings"
        return
    kind = OmegaConf.get_type(chosen)
    assert kind is not None
    if field.name == "method":
        yield from _method(chosen.name)
    yield from _fields(kind, f"{field.name}.", OmegaConf.to_container(chosen))


def _method(name: str) -> Iterator[str]:
    from methods import get  # loads torch, which commands without methods do not need

    method = get(name)
    yield f"  {name}: {method.summary}"
    if method.reference:
        yield from textwrap.wrap(
            f"{method.reference}, {method.reference.url}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
    config = method.config_class
    yield from _of_pairs(config.by_pair)
    for (name, value), by_pair in config.by_pair_with.items():
        yield from _of_pairs(by_pair, f" with method.{name}={str(value).lower()}")


def _of_pairs(by_pair: Mapping[str, Mapping[str, Any]], condition: str = "") -> Iterator[str]:
    for pair, settings in by_pair.items():
        which = pair or ("any other pair" if len(by_pair) > 1 else "any pair")
        yield f"  for {which}{condition}: " + " ".join(f"method.{key}={value}" for key, value in settings.items())


def _fields(config: type, prefix: str, values: Any, sections: Container[str] = ()) -> Iterator[str]:
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(default_of(field)) or field.name in sections:
            continue
        if field.name == "name" and prefix:
            continue
        shown = values.get(field.name, default_of(field))
        yield f"  {prefix}{field.name}{_shown(shown)}"
        yield from textwrap.wrap(_meaning(field), WIDTH, initial_indent="      ", subsequent_indent="      ")


def _shown(value: Any) -> str:
    """A default; none where the protocol or the pair decides."""
    if value is None or value in ("???", "", []):
        return ""
    if isinstance(value, dict):
        return " = {" + ", ".join(f"{key}: {weight:g}" for key, weight in value.items()) + "}"
    if isinstance(value, bool):
        return f" = {str(value).lower()}"
    if isinstance(value, list) and all(isinstance(element, Enum) for element in value):
        return f" = [{','.join(element.name for element in value)}]"
    return f" = {value}"


def _meaning(field: dataclasses.Field[Any]) -> str:
    notes = [field.metadata["help"]]
    if field.metadata["live_when"]:
        notes.append(f"acts only {field.metadata['live_when']}")
    if field.metadata["source"]:
        notes.append(f"[{field.metadata['source']}]")
    if field.metadata["search"]:
        notes.append(f"search: {_range(field.metadata['search'])}")
    return "; ".join(notes)


def _range(search: Any) -> str:
    if isinstance(search, Mapping):
        return ", ".join(f"{key} {each}" for key, each in search.items())
    return str(search)
