"""Grids as terminal text, Markdown, LaTeX and HTML. A name may hold anything: each format escapes what it must."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from io import StringIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from analysis.cells import BEST, SECOND
from analysis.grid import Entry, Grid

Line = Sequence[Entry]
NARROW = 3  # columns, the names among them, that a column of a paper has room for
ROWS = 35  # that a page of a paper has room for, beside caption and notes


def terminal(grids: Sequence[Grid], console: Console) -> None:
    """Print grids; where the console has no styles, *best* and _second_ stand for bold and underlined."""
    for grid in grids:
        console.print(Text(grid.heading, style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for lines in zip(*grid.head, strict=True):
            table.add_column(Text("\n".join(lines)), no_wrap=True, justify="right" if table.columns else "left")
        for title, rows in grid.blocks:
            if title:
                table.add_row(Text(title, style="italic"))
            for row in rows:
                table.add_row(*(_styled(entry, console) for entry in row))
            table.add_section()
        # A number that is cut off would be another number: wide tables run on rather than being cropped.
        table.width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console.print(table, soft_wrap=True)
        for note in grid.notes:
            console.print(Text(note), soft_wrap=True)
        console.print()


def _styled(entry: Entry, console: Console) -> Text:
    if console.is_terminal:
        return Text(entry.text, style={BEST: "bold", SECOND: "underline"}.get(entry.cell.mark, ""))
    return Text(_marked(entry, str, "*%s*", "_%s_"))


def _marked(entry: Entry, escape: Callable[[str], str], best: str, second: str) -> str:
    """An entry's text as a format has it, set as its mark says."""
    return {BEST: best, SECOND: second}.get(entry.cell.mark, "%s") % escape(entry.text)


def text(grids: Sequence[Grid]) -> str:
    """Grids as the terminal shows them, without styles."""
    out = StringIO()
    terminal(grids, Console(file=out, force_terminal=False, width=10_000))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def markdown(grids: Sequence[Grid]) -> str:
    """Grids as Markdown tables."""
    return "\n".join(line for grid in grids for line in _markdown(grid))


def _markdown(grid: Grid) -> Iterable[str]:
    heads = [" / ".join(part for part in lines if part) for lines in zip(*grid.head, strict=True)]
    yield f"**{escape_markdown(grid.heading)}**\n"
    yield _bars(map(escape_markdown, heads))
    yield _bars(["---", *["---:"] * (len(heads) - 1)])
    for title, rows in grid.blocks:
        if title:
            yield _bars([f"*{escape_markdown(title)}*", *[""] * (len(heads) - 1)])
        for row in rows:
            yield _bars(_marked(entry, escape_markdown, "**%s**", "<u>%s</u>") for entry in row)
    yield ""
    yield from (f"- {escape_markdown(note)}" for note in grid.notes)
    yield ""


def _bars(parts: Iterable[str]) -> str:
    return f"| {' | '.join(parts)} |"


def escape_markdown(name: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", name)


def latex(grids: Sequence[Grid]) -> str:
    r"""Grids as LaTeX floats to `\input`, each with a label of its own; they need `booktabs` and `graphicx`.

    What is wider than the paper's lines is made smaller, what is longer than a page goes into several floats.
    """
    parts = [part for grid in grids for part in _pages(grid)]
    labels = [_label(part) for part in parts]
    numbers = [labels[: place + 1].count(label) for place, label in enumerate(labels)]
    unique = (label if number == 1 else f"{label}-{number}" for label, number in zip(labels, numbers, strict=True))
    floats = (line for part, label in zip(parts, unique, strict=True) for line in _latex(part, label))
    return "% \\usepackage{booktabs,graphicx}\n" + "\n".join(floats)


def _pages(grid: Grid) -> Iterable[Grid]:
    """A grid in parts of at most `ROWS` rows, the notes below the last.

    A block that does not fit into the rest of a part begins the next, but not where this would leave the part less
    than half full, as by teacher and student alone above many methods: there it is divided.
    """
    parts: list[list[tuple[str, tuple[tuple[Entry, ...], ...]]]] = [[]]
    for title, rows in grid.blocks:
        while rows:
            room = ROWS - sum(len(others) for _, others in parts[-1])
            if len(rows) > room and 2 * room <= ROWS:
                parts.append([])
            else:
                parts[-1].append((title, rows[:room]))
                rows = rows[room:]
    for place, blocks in enumerate(parts, 1):
        title = grid.title if place == 1 else f"{grid.title} (continued)"
        notes = grid.notes if place == len(parts) else ("continued; notes are below the last part",)
        yield replace(grid, title=title, blocks=tuple(blocks), notes=notes)


def _label(grid: Grid) -> str:
    """What a paper refers to a float by."""
    words = f"{' '.join(_words(grid))} {grid.title.split(':')[0]}"
    return "tab:" + re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _words(grid: Grid) -> Sequence[str]:
    """The protocol without its hash, which tells a reader of a paper nothing."""
    return grid.protocol.split()[:-1]


def _latex(grid: Grid, label: str) -> Iterable[str]:
    width = len(grid.head[0])
    environment = "table" if width <= NARROW else "table*"
    caption = f"{grid.title} ({' '.join(_words(grid))})"
    yield from (rf"\begin{{{environment}}}[tp]", r"\centering\small\setlength{\tabcolsep}{4pt}")
    yield from (rf"\caption{{{escape_latex(caption)}}}", rf"\label{{{label}}}")
    # How wide a line is, only the paper knows: what is wider than that is made smaller there.
    yield from (r"\sbox0{%", rf"\begin{{tabular}}{{l*{{{width - 1}}}{{r}}}}", r"\toprule")
    yield from (_ampersands(map(escape_latex, line)) for line in grid.head)
    for title, rows in grid.blocks:
        yield r"\midrule"
        if title:
            yield rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape_latex(title)}}}}} \\"
        for row in rows:
            yield _ampersands(_marked(entry, escape_latex, r"\textbf{%s}", r"\underline{%s}") for entry in row)
    yield from (r"\bottomrule", r"\end{tabular}}%")
    yield r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"
    yield r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize"
    yield from (escape_latex(note) + r"\par" for note in grid.notes)
    yield from (r"\end{minipage}", rf"\end{{{environment}}}", "")


def _ampersands(parts: Iterable[str]) -> str:
    # An empty group: a line that began with [ would be read as an argument of the \\ before it.
    return "{} " + " & ".join(parts) + r" \\"


GREEK = (  # as LaTeX calls what it has of them
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
LATEX = {
    **{
        letter: rf"$\{name}$"
        for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", GREEK.split(), strict=True)
    },
    **{letter: "\\" + letter for letter in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "†": r"\textdagger{}",
}


def escape_latex(name: str) -> str:
    """Text that LaTeX sets as it is; letters that its Latin fonts lack are named by their code."""
    return "".join(map(_latex_letter, unicodedata.normalize("NFC", name)))


def _latex_letter(letter: str) -> str:
    if letter in LATEX:
        return LATEX[letter]
    there = letter.isascii() or ("À" <= letter <= "ÿ" and letter not in "ÐÞðþ")  # LaTeX's usual fonts lack these
    return letter if there else f"U+{ord(letter):04X}"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; font-weight: 400 }
th:first-child, td:first-child { text-align: left }
thead { border-top: 2px solid; border-bottom: 1px solid } tbody { border-bottom: 1px solid #bbb }
tbody:last-of-type { border-bottom: 2px solid } strong { font-weight: 700 } u { text-underline-offset: .2em }
.title th { font-style: italic; text-align: left } ul { color: #555; padding-left: 1.2rem; max-width: 70rem }
"""


def html_page(grids: Sequence[Grid]) -> str:
    """Grids as one page that needs nothing else."""
    tables = "\n".join(map(html_table, grids))
    head = f'<meta charset="utf-8"><title>{html.escape(grids[0].heading)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{tables}\n</body></html>\n'


def html_table(grid: Grid) -> str:
    """One grid as a table and its notes."""
    head = "".join(f"<tr>{''.join(f'<th>{html.escape(part)}</th>' for part in line)}</tr>" for line in grid.head)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in grid.notes)
    bodies = "\n".join(_html_block(title, rows, len(grid.head[0])) for title, rows in grid.blocks)
    caption = f"<caption>{html.escape(grid.heading)}</caption>"
    return f"<table>{caption}\n<thead>{head}</thead>\n{bodies}\n</table>\n<ul>{notes}</ul>"


def _html_block(title: str, rows: Sequence[Line], width: int) -> str:
    lines = [f'<tr class="title"><th colspan="{width}">{html.escape(title)}</th></tr>'] if title else []
    for row in rows:
        entries = (_marked(entry, html.escape, "<strong>%s</strong>", "<u>%s</u>") for entry in row)
        lines.append(f"<tr>{''.join(f'<td>{entry}</td>' for entry in entries)}</tr>")
    return f"<tbody>{''.join(lines)}</tbody>"
