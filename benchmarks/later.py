"""Settings that came after runs, teachers and logs without them. Depends on nothing.

Each is declared by `option(…, later=True)`. While it has its default, with which all is done as it was before, a
run keeps its id, a teacher its place and a log its protocol. Readers of logs, who see no declaration, find it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Defaults by section of a run's configuration, as they are logged.
LATER: Mapping[str, Mapping[str, Any]] = {"train": {"schedule": "step"}}


def without_later(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A section's settings as they were before those came that have their defaults."""
    later = LATER.get(section, {})
    return {key: value for key, value in settings.items() if key not in later or value != later[key]}


def with_later(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by section, with the defaults of those that came later where they are not told."""
    told = {section: {**later, **content[section]} for section, later in LATER.items() if section in content}
    return {**content, **told}
