"""The report: in a browser it sorts, shows each figure and what is behind each number, and asks for nothing."""

import dataclasses
import html
import json
import re
import shlex
import shutil

import numpy as np
import pytest
from light import assert_light
from logged import grid, logged, logs_of

import analysis
from analysis import plot
from analysis.figures.settings import FigureKind
from analysis.figures.view import one_protocol
from analysis.page import page
from analysis.parquet import save
from analysis.report import COMMAND
from analysis.settings import Layout, Measure
from analysis.tables import compare
from benchmarks.cli import compose_config, main

VGG, WRN = "vgg13_vgg8", "wrn40_2_wrn16_2"
HOSTILE = '<img src=x onerror="window.pwned=1"> </script><script>window.pwned=1</script> \'$x$ & \u202e'
SCORES = {
    ("none", VGG): [69.0, 70.0, 70.5],
    ("none", WRN): [72.0, 73.0, 73.5],
    ("kd", VGG): [72.0, 72.4, 72.6],
    ("kd", WRN): [74.0, 74.4, 74.6],
    ("at", VGG): [100.0, 100.0, 100.0],
}
KINDS = [FigureKind.curves, FigureKind.gain, FigureKind.ranks, FigureKind.weights, FigureKind.tsne]


def runs():
    made = grid(SCORES)
    for run in made:
        run.config["command"] = (
            f"python -m benchmarks.run method={run.config['method']['name']} seed={run.config['seed']}"
        )
    failed = logged("kd", VGG, 9, status="failed")
    failed.summary["failure"] = "the loss is not finite"
    return [*made, logged("kd", VGG, 0, 71.0, label=HOSTILE), failed]


def test_the_page_tells_what_was_lost_in_reading():
    lost = "runs/a: damaged pieces left out: 2"
    logs = dataclasses.replace(logs_of(runs()), notes=(lost,))
    shown = page(compare(logs), "Results", [])
    assert f"<li>{lost}</li>" in shown
    assert "<li>kd-vgg13_vgg8-9-0 left out" not in shown  # it is in the list of those


def test_figures_are_of_top1_whatever_the_tables_compare():
    made = runs()
    for place, run in enumerate(made):
        if run.config["method"]["name"] != "none":  # a student alone follows no teacher
            run.summary["test/teacher_kl"] = place / 8
    pages = [
        page(compare(logs_of(made), Layout(measure=measure)), "Results", [FigureKind.gain])
        for measure in (Measure.top1, Measure.teacher_kl)
    ]
    of_top1, others = (re.findall("<figure>.*?</figure>", shown, re.DOTALL) for shown in pages)
    assert "test top-1" in of_top1[0]
    assert of_top1 == others
    assert "Complete runs; KL divergence from the teacher in nats after the last epoch" in pages[1]
    behind = [json.loads(re.search('id="provenance">(.*?)</script>', shown)[1]) for shown in pages]
    (one, other), of_kl = (shown[f"kd-{VGG}-1-0"] for shown in behind), "KL divergence from the teacher in nats"
    assert other == one | {of_kl: 7 / 8}


def test_the_page_calls_rows_as_the_paper_does():
    layout = Layout(compare="kd", names={"kd": "Hinton", "at": "Zagoruyko"})
    shown = page(compare(logs_of(grid(SCORES)), layout), "", [])
    tables = re.findall("<table.*?</table>", shown, re.DOTALL)
    differences = [table for table in tables if "P(better)" in table or "bootstrap" in table]
    assert len(differences) == 2
    for table in differences:
        assert "Hinton" in table
        assert "Zagoruyko" in table
        assert not re.search(r"\b(kd|at)\b", table)


def test_a_pair_under_several_teachers_has_one_figure_which_its_command_draws():
    places = [(VGG, "d" * 64), (VGG, "e" * 64), (WRN, None)]
    made = [logged("kd", pair, teacher=teacher, id=f"run {k}") for k, (pair, teacher) in enumerate(places)]
    for each in made:
        for term in ("ce", "kd"):
            each.history |= {f"train/loss/{term}": np.ones(2), f"train/weight/{term}": np.ones(2)}
    logs = logs_of(made)
    shown = page(compare(logs), "", [FigureKind.weights])
    headings = [heading for heading in re.findall("<h3[^>]*>(.*?)</h3>", shown) if heading.startswith("weights")]
    assert [heading.split()[-1] for heading in headings] == [f"({WRN})", f"({VGG})"]
    figures = re.findall("<figure>.*?</figure>", shown, re.DOTALL)
    for drawn, pair in zip(figures, (WRN, VGG), strict=True):
        again = analysis.figure(logs, FigureKind.weights, pairs=[pair])
        for title in (axis.get_title() for axis in again.axes):
            assert title.split("\n")[-1] in drawn


def written(kinds=KINDS):
    return page(compare(logs_of(runs()), Layout(), ["here"]), f"Results {HOSTILE}", kinds)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a head, that may reach nothing."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for switch in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={profile}"),
        "window-size=1280,1000",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """The report, with what the browser logged while it opened."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(written(), encoding="utf-8")
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get(path.as_uri())
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    browser.requests = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    browser.path = path
    return browser


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def test_it_opens_without_errors_and_asks_for_nothing(opened):
    assert opened.get_log("browser") == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [opened.path.as_uri()]


def test_every_figure_is_there_and_what_is_not_says_why(opened):
    figures = find(opened, "figure svg")
    headings = [each.text.split(":")[0] for each in find(opened, "figure h3")]
    assert headings == ["curves", "gain"]
    assert all(each.size["width"] > 200 and each.size["height"] > 100 for each in figures)
    assert all(find(each, "text") for each in figures)
    missing = {row.text.split()[0]: row.text for row in find(opened, "section table.words:not(.sortable) tr")}
    assert missing.keys() == {"ranks", "weights", "tsne"}
    assert "ranks need two methods" in missing["ranks"]
    assert "tracking.artifacts=true" in missing["tsne"]


FIRST = "#protocol-1 .scroll:first-of-type table"  # methods by pairs, wrn40_2_wrn16_2 first


def column(browser, place):
    """The texts of a column in each part of the first table."""
    bodies = find(browser, FIRST + " tbody:not(.title)")
    cells = f"td:nth-child({place + 1})"
    return [[cell.text for cell in body.find_elements("css selector", cells)] for body in bodies]


def test_a_click_on_a_head_sorts_each_part_by_number_with_gaps_last(opened):
    heads = find(opened, FIRST + " thead button")
    before = column(opened, 1)
    heads[2].click()
    up = column(opened, 2)
    heads[2].click()
    down = column(opened, 2)
    assert [text.split()[0] for text in up[1]] == ["71.00", "72.33", "100.00"]  # as texts 100 would come first
    assert [text.split()[0] for text in down[1]] == ["100.00", "72.33", "71.00"]
    assert find(opened, "th[aria-sort=descending]")
    heads[1].click()
    (*numbers, first, last) = column(opened, 1)[1]
    assert (first, last) == ("–", "–")
    assert len(numbers) == 1
    assert [sorted(part) for part in column(opened, 1)] == [sorted(part) for part in before]
    heads[0].click()
    names = column(opened, 0)[1]
    assert names == sorted(names, key=str.lower)


def test_a_click_on_a_number_shows_its_runs_and_their_commands(opened):
    (row,) = [row for row in find(opened, FIRST + " tbody tr") if row.text.startswith("kd 74.33")]
    row.find_elements("css selector", "button.number")[1].click()
    (dialog,) = find(opened, "dialog[open]")
    text = dialog.text
    for seed in range(3):
        assert f"kd-{VGG}-{seed}-0" in text
        assert f"python -m benchmarks.run method=kd seed={seed}" in text
    assert text.count("f" * 40) == 3  # the commit
    assert "kd-" + WRN not in text
    dialog.find_element("css selector", "summary").click()
    assert '"batch_size": 64' in dialog.text
    dialog.find_element("css selector", "form button").click()
    assert not find(opened, "dialog[open]")


def test_a_telephone_shows_numbers_beside_the_names(opened):
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        for table in find(opened, "section table.sortable:has(caption)"):
            number = table.find_element("css selector", "button.number")
            assert number.location["x"] + number.size["width"] < 400
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_was_left_out_is_listed_with_its_reason(opened):
    (line,) = [row.text for row in find(opened, "#excluded tbody tr")]
    assert line.startswith(f"kd-{VGG}-9-0")
    assert "the loss is not finite" in line


def test_names_are_shown_and_never_obeyed(opened):
    assert opened.execute_script("return window.pwned") is None
    assert not find(opened, "img")
    assert len(find(opened, "script")) == 2
    assert opened.title.startswith("Results <img src=x onerror")
    assert any("<img src=x" in cell.text for cell in find(opened, "#runs td"))


def test_nothing_in_the_page_points_elsewhere_and_it_comes_out_the_same():
    content = written([FigureKind.curves])
    assert content == written([FigureKind.curves])
    outside = content.replace("http://www.w3.org/", "")
    assert "http://" not in outside
    assert "https://" not in outside
    assert "default-src 'none'" in content


def test_protocols_have_chapters_of_their_own():
    others = [logged("kd", VGG, 0, 50.0, train={"batch_size": 128})]
    content = page(compare(logs_of([*grid(SCORES), *others]), Layout()), "Results", [FigureKind.curves])
    assert content.count('<section id="protocol-') == 2
    assert content.count("<figure>") == 2


def test_the_command_below_a_figure_draws_it():
    layout = Layout(methods=["kd", "none"], variants=False, pairs=[VGG], alpha=0.1)
    content = page(compare(logs_of(grid(SCORES)), layout, ["a b"]), "Results", [FigureKind.gain, FigureKind.curves])
    lines = [shlex.split(html.unescape(line)) for line in re.findall(r"<code>(.*?)</code>", content)]
    assert all(line[:3] == ["python", "-m", "analysis.plot"] for line in lines)
    gain, curves = (plot.resolve(*compose_config(plot.COMMAND, line[3:])) for line in lines)
    assert (gain.kind, gain.alpha, gain.methods, gain.pairs) == (FigureKind.gain, 0.1, ["kd", "none"], [VGG])
    assert (curves.kind, curves.source, curves.variants) == (FigureKind.curves, ["a b"], False)
    one_protocol(logs_of(grid(SCORES)), gain.methods, gain.pairs, gain.protocol, gain.epoch)


def test_without_variants_the_figures_of_variants_still_show_them():
    runs = [
        *grid({("kd", VGG): [70, 71, 72]}),
        *grid({("kd", VGG): [73, 74, 75]}, label="soft", settings={"t": "8"}),
    ]
    content = page(
        compare(logs_of(runs), Layout(variants=False)), "Results", [FigureKind.ablation, FigureKind.curves]
    )
    ablation, curves = re.findall(r"<svg.*?</svg>", content, flags=re.DOTALL)
    tables = content[: content.index("<svg")]
    assert ["soft" in part for part in (ablation, curves, tables)] == [True, False, False]


def test_the_command_writes_one_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(logs_of(runs()), tmp_path / "logs.parquet")
    words = ["source=logs.parquet", "out=deep/report.html", "figures=[curves]", "title='A = B'", "compare=kd"]
    assert main(COMMAND, words) == 0
    said = capsys.readouterr()
    assert said.out == "deep/report.html\n"
    assert "figure 1/1  curves\n" in said.err
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]
    content = (tmp_path / "deep" / "report.html").read_text()
    assert "<h1>A = B</h1>" in content
    assert 'id="tests"' in content


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["out=report.pdf"], ["out=report.pdf", ".html"]),
        (["figures=[curve]"], ["figures", "curve"]),
        (["source=nowhere"], ["source=nowhere"]),
        (["alpha=2"], ["alpha=2"]),
    ],
)
def test_mistakes_are_named(words, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(COMMAND, words) == 2
    error = capsys.readouterr().err
    assert all(text in error for text in told), error
    assert not list(tmp_path.iterdir())


def test_the_default_that_help_shows_can_be_typed(capsys):
    assert main(COMMAND, ["help"]) == 0
    shown = re.search(r"^  (figures) = (.*)$", capsys.readouterr().out, flags=re.M)
    config, _ = compose_config(COMMAND, ["=".join(shown.groups())])
    assert list(config.figures) == list(FigureKind)


def test_help_and_mistakes_load_nothing_heavy():
    lines = ["import analysis.report as r", "r.main(r.COMMAND, ['help'])", "r.main(r.COMMAND, ['out=x'])"]
    assert_light({"matplotlib", "pandas", "numpy", "jinja2", "torch", "wandb"}, *lines)
