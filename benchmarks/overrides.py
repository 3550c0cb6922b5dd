"""The grammar of all commands: words `key=value`, in Hydra's form, and settings written as such words.

What Hydra lets pass is refused: repeated keys, `+`, `~`, sweeps, `hydra.*`, empty values.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import OverrideParseException

from benchmarks.errors import UserError


def parse(arguments: Sequence[str]) -> list[Override]:
    """Words as overrides, each key once.

    Raises:
        UserError: one that means nothing here.
    """
    overrides = []
    for argument in arguments:
        _refuse_unprintable(argument)
        if "=" not in argument:
            raise UserError(f"'{argument}' is not of the form key=value (or help)")
        try:
            (override,) = OverridesParser.create().parse_overrides([argument])
        except OverrideParseException:
            raise UserError(_unparsable(argument)) from None
        _refuse_other_grammar(argument, override)
        overrides.append(override)
    seen: set[str] = set()
    for override in overrides:
        if override.key_or_group in seen:
            raise UserError(f"{override.key_or_group} is given twice")
        seen.add(override.key_or_group)
    return overrides


def _refuse_unprintable(argument: str) -> None:
    """Values become names of files and rows of tables: no control characters, and nothing that is no Unicode."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in argument):
        raise UserError(f"{argument!r}: control characters and bytes that are not UTF-8 are not allowed")


def _unparsable(argument: str) -> str:
    key, value = argument.split("=", 1)
    for opened, closed in ("[]", "{}"):
        if value.count(opened) > value.count(closed):
            # One with blanks in it has its quotes.
            hint = "" if " " in value else f"; if it contains spaces, quote the whole argument: '{key}=…'"
            return f"cannot read '{argument}': a {opened} is not closed{hint}"
        if value.count(opened) < value.count(closed):
            return f"cannot read '{argument}': a {closed} has no {opened} before it"
    if value.startswith(("[", "{")):
        within = "text with anything but Latin letters, digits and spaces needs quotes of its own"
        return f"cannot read '{argument}': {within}, as in {{label: 'a (b)'}}"
    if "=" in value or any(character in value for character in "()&;'\" "):
        return f"{key}: a value with = or other special characters needs quotes: \"{key}='{value}'\""
    return f"cannot read '{argument}': expected key=value, a list as [a,b], a mapping as {{a: 1}}"


def _refuse_other_grammar(argument: str, override: Override) -> None:
    if override.is_add() or override.is_force_add() or override.is_delete():
        raise UserError(f"'{argument}': + and ~ are not used here; write {override.key_or_group}=value")
    if override.key_or_group.split(".")[0].split("/")[0] == "hydra" or override.package is not None:
        raise UserError(f"'{argument}': unknown key")
    if override.is_sweep_override():
        raise UserError(f"'{argument}': one value at a time; a list is written as [a,b]")
    if "${" in argument or re.search(r"(?<!\?)\?{3}(?!\?)", argument):
        raise UserError(f"'{argument}': write the value out; ${{…}} and ??? are not used here")
    if override.value() == "":
        raise UserError(f"'{argument}': the value is missing")


class PresetLoader(yaml.SafeLoader):
    """YAML without references, by which a few lines can stand for endless ones."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to a part of itself by *")
        return super().compose_node(parent, index)


def preset_words(path: Path) -> list[str]:
    """A preset file's settings as words of the command line.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), PresetLoader)
    except OSError as error:
        raise UserError(f"preset={path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such date
        raise UserError(f"preset={path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"preset={path} must hold keys and values")
    return as_overrides(content)


def as_overrides(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as words of the command line."""
    lines = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            if not prefix and "name" in value:  # {method: {name: aftkd, degree: 0.3}}
                lines.append(f"{key}={_literal(value['name'])}")
                value = {name: setting for name, setting in value.items() if name != "name"}
            lines += as_overrides(value, f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key}={_literal(value)}")
    return lines


def _literal(value: Any) -> str:
    """A value in the grammar of overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ",".join(_literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        reserved = value.lower() in ("null", "true", "false", "nan", "inf")
        if re.fullmatch(r"[A-Za-z_/][\w./-]*", value) and not reserved:
            return value
        # To Hydra a backslash means itself, but for those in front of a quote.
        return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + "\\'" * bool(found[2]), value) + "'"
    return str(value)


def unquoted(value: Any) -> Any:
    """A value without the quotes in which it may have been typed."""
    return value.text if isinstance(value, QuotedString) else value


def word_of(override: Override) -> str:
    """The word that it was read from."""
    assert override.input_line is not None
    return override.input_line
