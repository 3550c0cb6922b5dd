"""What a teacher shows of each view, looked up instead of computed: no other number, no work done twice."""

import dataclasses
import itertools
import math
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from commands import few_digits, files, interrupted_at, result, run_folder, same, weights, without_times
from helpers import epoch_of, make, student_features, teacher_features, terms_of
from lines import resolved

import methods
from benchmarks import room, views
from benchmarks.config import Views
from benchmarks.console import make_console
from benchmarks.data import Augmentation, DataSet, Draw, Split, TrainBatches, View
from benchmarks.tensors import read_tensors
from benchmarks.training.snapshot import Snapshot
from benchmarks.training.view_table import ViewTable
from benchmarks.views import KeptViews, choose, spared, steady
from methods import Features

CPU = torch.device("cpu")
LOGITS, BOTH, MAPS = (frozenset(parts) for parts in (["logits"], ["logits", "embedding"], ["logits", "stages"]))


def batches(flip=True, num_data=10, batch_size=4):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_data, 3, 6, 6), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(num_data) % 3)
    data = DataSet(split, split, "test", 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), Augmentation(1, flip))
    return TrainBatches(data, batch_size, 0, CPU)


def show(batch):
    """A teacher of two classes that sees every image by itself."""
    pixels = batch.images.flatten(1)
    return Features((), (), embedding=pixels[:, :5].contiguous(), logits=pixels[:, -2:].contiguous())


def table(source):
    return ViewTable({"logits": torch.empty(1, 2), "embedding": torch.empty(1, 5)}, source)


# Crops by number


@pytest.mark.parametrize("flip", [True, False])
def test_crops_are_numbered_by_row_column_and_flip(flip):
    source = batches(flip)
    numbers = itertools.product(range(3), range(3), range(1 + flip))
    for crop, (row, column, flipped) in enumerate(numbers):
        expected = source.padded[[7], :, row : row + 6, column : column + 6]
        expected = source.normalise(expected.flip(3) if flipped else expected)
        assert torch.equal(source.batch(Draw(torch.tensor([7]), torch.tensor([crop]))).images, expected)
    assert crop + 1 == source.augmentation.num_crops
    unchanged = source.probe(10).images
    assert torch.equal(unchanged, source.normalise(source.padded[:, :, 1:7, 1:7]))


def test_a_batch_says_which_crops_it_shows():
    source = batches()
    for batch in epoch_of(source, 2, start=1, view=View(1)):
        assert torch.equal(source.batch(Draw(batch.index, batch.crop)).images, batch.images)


@pytest.mark.parametrize("flip", [True, False])
def test_turned_views_are_cropped_anew_mirrored_together_and_turned(flip):
    source = batches(flip)
    turned = [View(k, k) for k in range(4)]
    shown = [torch.cat([batch.images for batch in epoch_of(source, 1, view=view)]) for view in turned]
    draws = [source.draws(1, view=view) for view in turned]
    mirrored = [draw.crop % 2 if flip else 0 * draw.crop for draw in draws]
    for turns, (images, draw) in enumerate(zip(shown, draws, strict=True)):
        upright = source.batch(Draw(draw.index, draw.crop)).images
        assert torch.equal(images, upright.rot90(turns, (2, 3)))
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(draw.index, draws[0].index)
        assert torch.equal(mirrored[turns], mirrored[0])
        assert (draw.crop != draws[0].crop).any() == (turns > 0)
    assert mirrored[0].any() == flip
    assert torch.equal(draws[0].crop, source.draws(1).crop)


# The table


def test_only_unseen_views_are_looked_at_in_whole_batches_and_come_back_as_they_were():
    source = batches()
    known, seen = table(source), set()
    for epoch in range(12):
        draw = source.draws(epoch)
        new = set(zip(draw.index.tolist(), draw.crop.tolist(), strict=True)) - seen
        looks = list(known.unseen(draw))
        assert [len(batch.index) for batch in looks] == [4] * math.ceil(len(new) / 4)
        assert {
            view for batch in looks for view in zip(batch.index.tolist(), batch.crop.tolist(), strict=True)
        } == new
        for batch in looks:
            known.put(batch, show(batch))
        seen |= new
        assert not list(known.unseen(draw))
    assert len(seen) < 120  # some were met twice
    assert known.seen == pytest.approx(len(seen) / (10 * 18))
    for batch in epoch_of(source, 5):
        found, shown = known.look_up(batch), show(batch)
        assert torch.equal(found.logits, shown.logits)
        assert torch.equal(found.embedding, shown.embedding)
        assert known.answers(BOTH, batch) == (len(batch.index) == 4)  # the short one is another computation


def test_what_was_never_seen_is_no_number():
    source = batches()
    found = table(source).look_up(source.probe(4))
    assert found.logits.isnan().all()
    assert found.embedding.isnan().all()


def test_a_table_answers_for_what_it_keeps_alone():
    source = batches()
    known, batch = ViewTable({"logits": torch.empty(1, 2)}, source), source.probe(4)
    assert known.answers(LOGITS, batch)
    assert not known.answers(BOTH, batch)
    assert not known.answers(MAPS, batch)
    assert not known.answers(frozenset(), batch)
    assert not known.answers(LOGITS, dataclasses.replace(batch, crop=None))
    assert known.look_up(batch).embedding.shape == (4, 0)


def test_news_restores_another_table():
    source = batches()
    first, second = table(source), table(source)
    for batch in first.unseen(source.draws(0)):
        first.put(batch, show(batch))
    pieces = list(first.news(3))
    assert max(len(rows) for rows, _ in pieces) == 3
    for rows, parts in pieces:
        second.restore(rows, parts)
    assert not list(second.news(3))  # it has nothing of its own
    for name, kept in first.tables.items():
        assert torch.equal(kept.nan_to_num(7), second.tables[name].nan_to_num(7))
    assert second.seen == first.seen > 0


@pytest.mark.parametrize("name", [name for name in methods.available() if methods.get(name).needs == LOGITS])
def test_methods_that_ask_for_logits_read_no_embedding_of_the_teacher(name):
    student, teacher = student_features(), teacher_features(channels=(3, 4, 6, 5))  # fsp wants them alike
    less = dataclasses.replace(teacher, embedding=teacher.embedding[:, :0])
    whole, alone = (terms_of(make(name, student, teacher), student, shown) for shown in (teacher, less))
    assert whole.keys() == alone.keys()
    assert all(torch.equal(whole[term], alone[term]) for term in whole)


# When it is used


def test_the_trial_finds_a_teacher_whose_outputs_depend_on_its_batch():
    source = batches()

    def by_company(batch):
        features = show(batch)
        return dataclasses.replace(features, logits=features.logits + 1e-7 * batch.images.mean())

    def by_place(batch):
        features = show(batch)
        return dataclasses.replace(features, embedding=features.embedding + 1e-6 * torch.arange(4.0)[:, None])

    shown = steady(show, source)
    assert torch.equal(shown.logits, show(source.probe(4)).logits)
    assert steady(by_company, source) is None
    assert steady(by_place, source) is None


@pytest.mark.parametrize(
    ("asked", "needs", "choice"),
    [
        (Views.auto, LOGITS, Views.logits),
        (Views.auto, BOTH, Views.embedding),
        (Views.auto, MAPS, Views.none),
        (Views.auto, frozenset(), Views.none),
        (Views.none, LOGITS, Views.none),
        (Views.embedding, LOGITS, Views.embedding),
        (Views.logits, BOTH, Views.none),
        (Views.logits, frozenset(), Views.none),
    ],
)
def test_what_is_kept(asked, needs, choice):
    assert choose(asked, needs) == choice


def test_what_is_spared_is_counted_over_all_courses():
    courses = list(itertools.product(range(3), repeat=4))  # of an image seen four times in three crops
    met = sum(len(set(course)) for course in courses) / len(courses)
    assert spared(4, 3) == pytest.approx(1 - met / 4)
    assert spared(4, 3, known=0.5) == pytest.approx(1 - met / 2 / 4)
    assert spared(1, 162) == pytest.approx(0)
    assert spared(5, 1) == pytest.approx(0.8)
    assert round(240 * (1 - spared(240, 162))) == 125


def test_free_memory_is_what_the_job_is_allowed(tmp_path, monkeypatch):
    job = tmp_path / "job" / "step"
    job.mkdir(parents=True)
    (tmp_path / "job" / "memory.max").write_text("100\n")
    (tmp_path / "job" / "memory.current").write_text("90\n")
    (tmp_path / "job" / "memory.stat").write_text("anon 30\nfile 60\ninactive_file 40\nactive_file 20\n")
    (job / "memory.max").write_text("max\n")
    (job / "memory.current").write_text("20\n")
    (job / "memory.stat").write_text("anon 20\ninactive_file 0\nactive_file 0\n")
    assert room._limit(job) == math.inf
    assert room._limit(job.parent) == 70  # what files take there is given back
    monkeypatch.setattr(room, "_left_to_the_job", lambda: 70)
    assert room.free_memory(CPU) == 70
    monkeypatch.undo()
    assert 0 < room.free_memory(CPU) < 2**50
    assert (
        0 < room.free_disk(tmp_path / "not" / "there") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    )


# Runs

# One epoch of 20, 20 and 10 images, the last step's a short batch.
COHORT = (
    "methods=[crd,mlkd]",
    "train.batch_size=20",
    "train.epochs=1",
    "teacher.epochs=2",
)
LABELS = ("crd", "mlkd")


@pytest.fixture
def store(teacher_root, tmp_path):
    """A teacher store of its own, which does not know that its teacher learned from more images."""
    return shutil.copytree(teacher_root, tmp_path / "store", ignore=shutil.ignore_patterns("images.json"))


@pytest.fixture
def train(distil, store, tmp_path):
    """Runs a cohort on 50 images into a folder; its status."""
    with few_digits(train=50):
        yield lambda folder, *words: distil(f"teacher.root={store}", f"output={tmp_path / folder}", *words)


@pytest.fixture
def looks(monkeypatch):
    """Sizes of the batches that a teacher looked at to fill a table."""
    found, put = [], ViewTable.put

    def count(self, batch, shown):
        found.append(len(batch.index))
        put(self, batch, shown)

    monkeypatch.setattr(ViewTable, "put", count)
    return found


def parts(store):
    return sorted(store.glob("*/views-*/*.safetensors"))


def check_equal(tmp_path, folder, other, labels=LABELS):
    for label in labels:
        assert same(weights(tmp_path / folder, label), weights(tmp_path / other, label))
        histories = [without_times(result(tmp_path / each, label)["history"]) for each in (folder, other)]
        assert histories[0] == histories[1]
        assert run_folder(tmp_path / folder, label).name == run_folder(tmp_path / other, label).name


def test_beside_kept_views_turned_ones_are_computed(train, tmp_path):
    for folder, kept in (("plain", "none"), ("kept", "embedding")):
        assert train(folder, "method=sskd", f"teacher.views={kept}") == 0
    check_equal(tmp_path, "kept", "plain", ["sskd"])


def test_kept_views_change_no_bit_and_nothing_is_looked_at_again(train, store, tmp_path, looks, capsys):
    assert train("plain", *COHORT, "teacher.views=none") == 0
    assert not looks
    with interrupted_at(1):
        assert train("kept", *COHORT, "teacher.views=embedding") == 143
    assert looks == [20] * 6  # two views of 50 images
    assert len(parts(store)) == 1
    capsys.readouterr()
    assert train("kept", *COHORT, "teacher.views=embedding") == 0
    assert train("again", *COHORT, "teacher.views=embedding") == 0
    check_equal(tmp_path, "plain", "kept")
    check_equal(tmp_path, "plain", "again")
    assert len(looks) == 6
    told = re.findall(r"(\d\.\d) % of the views seen", capsys.readouterr().out)
    assert [float(seen) for seen in told] == pytest.approx(
        [100 * 2 / 81] * 2, abs=0.15
    )  # of an image; some are alike


def test_alone_with_logits_alone_and_damaged(train, store, tmp_path, looks, capsys):
    words = ("method=kd", "teacher.views=logits")
    assert train("plain", "method=kd") == 0  # auto: two epochs spare nothing
    assert not looks
    assert not parts(store)
    assert train("kept", *words) == 0
    check_equal(tmp_path, "plain", "kept", ["kd"])
    assert set(looks) == {8}
    (path,) = parts(store)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    seen = looks.copy()
    looks.clear()
    capsys.readouterr()
    assert train("mended", *words) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert f"{path}isnotareadablesafetensorsfile" in shown
    assert "computedagain" in shown
    assert looks == seen
    check_equal(tmp_path, "plain", "mended", ["kd"])
    (new,) = parts(store)
    assert new != path


def test_auto_uses_what_is_known_where_it_is_a_gain_and_fits(train, store, tmp_path, looks, monkeypatch):
    assert train("kept", "method=kd", "teacher.views=logits") == 0
    looks.clear()
    assert train("plain", "method=kd") == 0  # what is known of all views is little
    assert not looks
    monkeypatch.setattr(views, "WORTH", -1.0)
    assert train("more", "method=kd", "seed=1") == 0
    assert looks
    looks.clear()
    monkeypatch.setattr(views, "free_memory", lambda device: 10)
    assert train("small", "method=kd", "seed=2") == 0
    assert not looks


@pytest.mark.parametrize(
    ("device", "compiles", "asked"), [("cpu", False, True), ("cpu", True, False), ("cuda", False, False)]
)
def test_auto_asks_a_teacher_on_a_cpu_only(device, compiles, asked, monkeypatch, tmp_path):
    asks = []
    monkeypatch.setattr(views, "_try", lambda *_: asks.append(device))
    monkeypatch.setattr(views, "_draws", lambda *_: 240.0)
    run = SimpleNamespace(
        teacher=SimpleNamespace(views=Views.auto, root=tmp_path),
        pair=SimpleNamespace(teacher="resnet8"),
        train=SimpleNamespace(compiles=compiles),
    )
    member = SimpleNamespace(needs=LOGITS)
    place = SimpleNamespace(device=torch.device(device), augmentation=Augmentation(4, True))
    assert views.kept_views(run, [member], None, "sha256", place, None) is None
    assert bool(asks) == asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["methods=[kd,at]", "teacher.views=logits"], "teacher.views=logits has no effect beside at"),
        (["methods=[kd,crd]", "teacher.views=logits"], "teacher.views=embedding keeps that"),
        (["methods=[simkd]", "teacher.views=embedding"], "final"),
        (["methods=[none,ab]", "teacher.views=logits"], "teacher.views=logits has no effect beside ab"),
        (["method=kd", "teacher.views=maps"], "teacher.views"),
    ],
)
def test_views_that_cannot_act_are_refused(words, said, train, tmp_path, store, capsys):
    assert train("runs", *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words", [["method=none"], ["methods=[none,ab,kd]"], ["method=srrl", "method.connects=embedding"]]
)
def test_views_are_kept_where_a_method_reads_no_more_under_its_settings(words):
    """The student alone is the baseline of whatever command."""
    resolved("pair=vgg13_vgg8", *words, "teacher.views=embedding")


def test_views_that_cannot_be_kept_are_refused(train, tmp_path, store, monkeypatch, capsys):
    monkeypatch.setattr(views, "free_memory", lambda device: 10)
    assert train("runs", "method=kd", "teacher.views=logits") == 2
    assert "GB of memory" in capsys.readouterr().err
    monkeypatch.setattr(views, "steady", lambda look, source: None)
    assert train("runs", "method=kd", "teacher.views=logits") == 2
    assert "neighbours" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/**/result.json"))
    assert not parts(store)


def test_what_runs_at_once_keep_is_kept_once(tmp_path):
    """Also where one of their files is damaged by now."""
    source, folder = batches(), tmp_path / "views"

    def kept():
        return KeptViews(folder, {"keeps": "logits"}, table(source), Snapshot(None), make_console())

    def look(at, epochs):
        for batch in (batch for epoch in epochs for batch in at.table.unseen(source.draws(epoch))):
            at.table.put(batch, show(batch))

    one, other, third = kept(), kept(), kept()
    for each in (one, other, third):
        each.load()
    look(one, [0])
    one.save()
    (folder / "damaged.safetensors").write_bytes(b"")
    look(other, [0, 1])
    other.save()
    (folder / "damaged.safetensors").unlink()
    look(third, [0, 1])
    third.save()
    rows = torch.cat([read_tensors(path)["rows"] for path in folder.glob("*.safetensors")])
    assert len(rows) == len(rows.unique())
    again = kept()
    again.load()
    for name, each in again.table.tables.items():
        assert torch.equal(each.nan_to_num(7), other.table.tables[name].nan_to_num(7))


def test_nothing_is_kept_of_a_teacher_that_changed(tmp_path):
    source, teacher = batches(), torch.nn.Linear(2, 2)
    known = table(source)
    kept = KeptViews(tmp_path / "views", {"keeps": "logits"}, known, Snapshot(teacher), make_console())
    batch = source.probe(4)
    known.put(batch, show(batch))
    before = teacher.bias.detach().clone()
    with torch.no_grad():
        teacher.bias.add_(1)
    kept.save()
    assert not files(tmp_path)
    with torch.no_grad():
        teacher.bias.copy_(before)
    kept.save()
    assert len(files(tmp_path)) == 2
