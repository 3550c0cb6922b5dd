"""What must not be loaded, since it takes seconds or is not installed everywhere."""

import subprocess
import sys
from pathlib import Path


def assert_light(heavy: set[str], *lines: str) -> None:
    """These lines, in a process of their own, load nothing heavy."""
    end = [f"heavy = {heavy!r} & sys.modules.keys()", "assert not heavy, heavy"]
    code = "\n".join(["import sys", *lines, *end])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
