"""What a stranger may have written: names that are code, paths that lead out, files that execute."""

import ast
import re
from pathlib import Path

import pytest
from commands import files
from logged import logged, logs_of

from analysis import table as table_command
from analysis.parquet import save
from benchmarks.cli import main
from benchmarks.training.checkpoints import Checkpoints

ROOT = Path(__file__).parent.parent
PACKAGES = ("benchmarks", "methods", "sweeps", "analysis")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    *("eval", "exec", "os.system", "os.popen", "os.execvp", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "dill.load",
        "joblib.load",
        "marshal.loads",
        "shelve.open",
    ),
    *("yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "numpy.load", "np.load", "pd.read_pickle"),
    *("tempfile.mktemp", "tarfile.open", "shutil.unpack_archive"),
}


def complaints(path):
    """Calls in a source that would execute what they are given, or hand it to a shell."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        line = f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        if name in FORBIDDEN or words.get("shell", "False") != "False":
            yield line
        if name == "torch.load" and words.get("weights_only") != "True":
            yield f"{line} without weights_only=True"
        if name == "yaml.load" and not re.search("SafeLoader|PresetLoader", ast.unparse(node)):
            yield f"{line} without a safe loader"
        starts = name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call")
        if starts and not (node.args and isinstance(node.args[0], ast.List | ast.Name)):
            yield f"{line}: its command is no list"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_executes_what_it_reads(path):
    assert list(complaints(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.system(name)",
        "import subprocess; subprocess.run(f'ls {name}', shell=True)",
        "import subprocess; subprocess.run('ls ' + name)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import pickle; pickle.load(file)",
        "import yaml; yaml.load(text, yaml.Loader)",
        "eval(text)",
    ],
)
def test_the_look_at_the_sources_finds_it(code, tmp_path, monkeypatch):
    monkeypatch.setattr("test_hostile.ROOT", tmp_path)
    (tmp_path / "a.py").write_text(code)
    assert list(complaints(tmp_path / "a.py"))


NAMES = ["../../../escaped", "/escaped", "..", "a/../../../../escaped", "$(touch escaped)", ".wandb"]


@pytest.mark.parametrize("name", NAMES)
def test_a_label_never_leads_out_of_the_output_folder(name, distil, tmp_path, monkeypatch):
    """A run of such a label lies where all lie, and nothing else is written."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = files(tmp_path)
    line = f"methods=[{{name: none, label: '{name}'}}]"
    assert distil(line, "train.epochs=1", "train.max_steps=1") == 0
    new = files(tmp_path) - before - {"runs/images.json"}
    assert new
    assert all(re.fullmatch(r"runs/resnet8_resnet8/[^/]+/[0-9a-f]{10}/[^/]+", path) for path in new)


def test_names_of_checkpoints_are_no_instructions(tmp_path):
    """Files beside the checkpoints, however they are called, are neither read nor deleted."""
    strangers = ["checkpoint-.pt", "checkpoint-00000001.pt.py", "checkpoint-x.pt", "checkpoint-1;rm.pt", "wandb"]
    for name in strangers:
        (tmp_path / name).write_bytes(b"")
    kept = Checkpoints(tmp_path)
    kept.save(1, {})
    assert kept.steps() == {1}
    kept.discard_damaged()
    kept.delete()
    assert files(tmp_path) == set(strangers)


HOSTILE = "<script>alert(1)</script>\\input{/etc/passwd}$_{}^&%#~|[x](javascript:alert(1))"


@pytest.mark.parametrize("suffix", ["html", "tex", "md", "csv", "txt"])
def test_a_hostile_label_is_text_in_every_format(suffix, tmp_path, monkeypatch):
    """It was read from a log; in a page or a paper it must neither run nor include anything."""
    monkeypatch.chdir(tmp_path)
    save(
        logs_of([logged(label=HOSTILE), logged("none"), logged("at", label="../../escaped")]),
        tmp_path / "a.parquet",
    )
    assert main(table_command.COMMAND, ["source=a.parquet", f"out=table.{suffix}"]) == 0
    assert {path.name for path in tmp_path.iterdir()} <= {
        "a.parquet",
        f"table.{suffix}",
        f"table.{suffix}.provenance.json",
    }
    text = (tmp_path / f"table.{suffix}").read_text()
    if suffix == "html":
        assert "<script" not in text
        assert "&lt;script&gt;" in text
    if suffix == "tex":
        assert "\\input" not in text
    if suffix == "md":
        assert not re.search(r"(?<!\\)<script", text)
        assert not re.search(r"(?<!\\)\]\(javascript", text)
