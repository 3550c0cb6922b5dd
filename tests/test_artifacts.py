"""What a run writes with `tracking.artifacts=true`: the trained networks' own outputs, in any cohort."""

import itertools
from pathlib import Path

import pytest
import safetensors.torch
import torch
from commands import PAIR, few_digits, result, run_folder, weights
from wandb_logs import tracked

from analysis import parquet
from analysis.artifacts import path_of
from analysis.logs import load as load_logs
from analysis.places import without_places
from benchmarks import models
from benchmarks.artifacts import evenly
from benchmarks.config import DataConfig
from benchmarks.data import EvaluationBatches, load
from benchmarks.training.evaluate import figures, logits_of
from benchmarks.training.layout import place
from methods.maps import magnitude


def arrays(output, label):
    return safetensors.torch.load_file(run_folder(output, label) / "artifacts.safetensors")


@pytest.fixture(scope="module")
def output(teacher_root, tmp_path_factory):
    from commands import TINY, merge, run

    folder = tmp_path_factory.mktemp("artifacts")
    spatial = "{name: aftkd, label: spatial, content: attention, attention: spatial}"
    words = [f"methods=[none,kd,aftkd,{spatial}]", "tracking.mode=offline", "tracking.artifacts=true"]
    with few_digits():
        assert run(*merge(TINY, [*words, f"output={folder}", f"teacher.root={teacher_root}"])) == 0
    return folder


@pytest.fixture(scope="module")
def evaluation():
    with few_digits():
        dataset = load(DataConfig("digits"))
    return EvaluationBatches(dataset, torch.device("cpu"))


def network(state):
    model = models.create("resnet8", 10)
    model.load_state_dict(state)
    return place(model, torch.device("cpu")).eval()


@pytest.mark.parametrize("label", ["none", "kd", "aftkd"])
def test_the_students_arrays_are_its_final_networks(label, output, evaluation):
    written, student = arrays(output, label), network(weights(output, label))
    (batch,) = evaluation
    with torch.no_grad():
        features = student.features(batch.images)
    torch.testing.assert_close(written["student/logits"], features.logits)
    torch.testing.assert_close(written["student/embedding"], features.embedding[written["embedded"]])
    for k, stage in enumerate(features.stages):
        shown = magnitude(stage[written["samples"]], 1.0).mean(dim=1)
        torch.testing.assert_close(written[f"student/attention/{k}"], shown, rtol=1e-4, atol=1e-5)
    assert torch.equal(written["targets"], evaluation.split.targets)
    assert torch.equal(written["images"], evaluation.split.images[written["samples"]])
    hits = (written["student/logits"].argmax(dim=1) == written["targets"]).double().mean() * 100
    assert hits.item() == pytest.approx(result(output, label)["summary"]["test/top1_last"])


def test_the_teachers_arrays_are_the_stored_teachers(output, evaluation, teacher_root):
    (stored,) = teacher_root.rglob("teacher.safetensors")
    teacher = network(safetensors.torch.load_file(stored))
    written = arrays(output, "kd")
    (logits,) = logits_of([teacher], evaluation, torch.autocast("cpu", enabled=False))
    top1 = figures(logits, evaluation.split.targets)["top1"]
    hits = (written["teacher/logits"].argmax(dim=1) == written["targets"]).double().mean() * 100
    assert hits.item() == pytest.approx(top1)
    for name in ("teacher/logits", "teacher/embedding", "teacher/attention/1"):
        assert torch.equal(written[name], arrays(output, "aftkd")[name])


def test_a_student_alone_shows_no_teacher(output):
    assert not [name for name in arrays(output, "none") if name.startswith("teacher/")]


@pytest.mark.parametrize(("label", "channels"), [("aftkd", None), ("spatial", 1)])
def test_afbs_are_those_that_the_loss_compares(label, channels, output):
    written = arrays(output, label)
    sizes = result(output, label)["config"]["method"]["block_size"]
    for k, size in enumerate(sizes, start=1):
        student, teacher = written[f"student/afb/{k}"], written[f"teacher/afb/{k}"]
        side = written[f"teacher/attention/{k}"].shape[-1]
        assert student.shape == teacher.shape == (8, channels or teacher.shape[1], side // size, side // size)
        for maps in (student, teacher):
            torch.testing.assert_close(maps.flatten(1).norm(dim=1), torch.ones(8))
    assert f"student/afb/{len(sizes) + 1}" not in written
    assert not [name for name in arrays(output, "kd") if "/afb/" in name]


def test_the_logs_say_where_they_are_and_what_the_networks_cost(output):
    for label in ("none", "aftkd"):
        (run,) = tracked(output, label)
        assert run.summary["artifacts"] == str((run_folder(output, label) / "artifacts.safetensors").resolve())
        assert run.config["costs"]["student"] == {"parameters": 78042, "macs": 12501632}
        assert run.config["costs"]["teacher"] == run.config["costs"]["student"]
        assert run.config["cohort"] == ["none", "kd", "aftkd", "spatial"]


def test_an_export_for_publication_tells_no_folder_of_the_machine(output, teacher_root):
    logs = load_logs([str(output)])
    places = (str(output), str(teacher_root), str(Path.home()))
    assert all(place in str(parquet.to_table(logs).to_pylist()) for place in places)
    public = without_places(logs)
    written = str(parquet.to_table(public).to_pylist())
    assert not [place for place in places if place in written]
    assert public.runs["folder"].str.startswith(f"{PAIR}/").all()
    assert logs.runs.drop(columns=["config", "summary", "source", "folder"]).equals(
        public.runs.drop(columns=["config", "summary", "source", "folder"])
    )


def test_they_are_found_by_the_logs_folder_and_never_by_their_name_alone(tmp_path, monkeypatch):
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    (tmp_path / "artifacts.safetensors").touch()
    monkeypatch.chdir(tmp_path / "wandb")
    written, moved = "artifacts.safetensors", "/gone/artifacts.safetensors"
    assert path_of({"summary": {"artifacts": moved}, "folder": "offline-run-1"}).samefile(tmp_path / written)
    monkeypatch.chdir(tmp_path)
    for folder in ("offline-run-2", "vgg13_vgg8/kd/1/wandb/offline-run-2", "https://wandb.example/runs/1"):
        assert path_of({"summary": {"artifacts": written}, "folder": folder}) is None


def test_writing_them_changes_no_result(output, distil, tmp_path):
    assert distil("methods=[kd]") == 0
    alone = result(tmp_path / "runs", "kd")
    assert alone["config"]["id"] == result(output, "kd")["config"]["id"]
    assert alone["summary"] == result(output, "kd")["summary"]
    assert not (run_folder(tmp_path / "runs", "kd") / "artifacts.safetensors").exists()


def test_a_complete_run_without_them_says_how_to_have_them(distil, capsys):
    assert distil("method=none") == 0
    capsys.readouterr()
    assert distil("method=none", "tracking.artifacts=true") == 0
    assert "rerun=true" in capsys.readouterr().out.split("none wrote no artifacts")[1].splitlines()[0]
    assert distil("methods=[none,kd]", "tracking.artifacts=true") == 0
    assert "none wrote no artifacts" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "total"), [(8, 70), (8, 8), (8, 3), (2000, 10000)])
def test_samples_are_distinct_and_spread(count, total):
    chosen = evenly(count, torch.zeros(total)).tolist()
    assert len(set(chosen)) == len(chosen) == min(count, total)
    gaps = {later - earlier for earlier, later in itertools.pairwise(chosen)}
    assert max(gaps) - min(gaps) <= 1
    assert chosen[-1] >= total - max(gaps)
