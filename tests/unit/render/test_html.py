import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analyzer.errors import InputError
from analyzer.rank.rank import rank
from analyzer.render import html, pdf
from analyzer.render.charts import draw
from analyzer.render.context import RunContext
from analyzer.render.page import make_view
from analyzer.render.view import Charts
from tests.fakes.outcomes import failure, run_config, server_config
from tests.fakes.runs import P99_20, model_spec, typical

EVIL = '<b>"bold"</b><script>alert(1)</script>'


def page(model: str = "synthetic", *, charts: bool = True, outcomes=None) -> str:
    ranking = rank(typical(model) if outcomes is None else outcomes, (), P99_20)
    context = RunContext(
        name=model,
        model=model,
        model_specs=(model_spec(model),),
        command=f"analyzer profile --profile-models {model}",
        started_at="2026-01-01T12:00:00Z",
        tool_version="0",
        config_text=lambda server, name: f'name: "{name}"',
        settings={model: model},
        environment={"cpu": model},
    )
    return html.render(make_view(ranking, context, draw(ranking, context.specs) if charts else Charts()))


class Tags(HTMLParser):
    """Counts opened and closed tags."""

    VOID = ("meta", "br", "hr", "img", "link", "input", "use", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def tags(text: str) -> list[str]:
    parser = Tags()
    parser.feed(text)
    assert parser.open == []
    return parser.seen


@pytest.fixture(scope="module")
def whole() -> str:
    return page()


def test_every_tag_is_closed_where_it_was_opened(whole: str):
    assert {"h1", "table", "svg", "dl", "pre"} <= set(tags(whole))


def test_names_from_outside_are_escaped_everywhere():
    outcomes = [*typical(EVIL), failure(run_config(server_config(6, model=EVIL), 1), reason=EVIL)]
    text = page(EVIL, outcomes=outcomes)
    seen = tags(text)
    assert seen.count("script") == 1
    assert "b" not in seen
    assert "&lt;b&gt;" in text


def test_the_page_needs_nothing_beside_it(whole: str):
    text = whole
    assert not re.search(r'\b(?:src|href)="(?!#)', text.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', ""))
    assert "@import" not in text
    assert "url(http" not in text
    assert "<link" not in text


def test_without_charts_no_empty_figure_is_left():
    assert '<figure class="chart">' not in page(charts=False)


def test_the_page_does_not_hold_paths_of_this_machine(whole: str):
    assert str(Path.cwd()) not in whole


def test_the_pdf_has_the_verdict_and_numbered_pages(tmp_path: Path):
    pypdf = pytest.importorskip("pypdf")
    pytest.importorskip("weasyprint")
    pdf.write(page(charts=False), tmp_path / "report.pdf")
    pages = [sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "report.pdf").pages]
    assert "2,222 infer/s" in pages[0].replace("\n", " ")
    assert all(f"{number} / {len(pages)}" in text for number, text in enumerate(pages, 1))
    assert 2 <= len(pages) <= 6


def test_a_pdf_fetches_nothing():
    with pytest.raises(ValueError, match="a report fetches nothing"):
        pdf.refuse("https://example.org/x.png")


def test_without_weasyprint_the_sentence_names_the_extra(tmp_path: Path):
    code = (
        "import sys; sys.modules['weasyprint'] = None\n"
        "from pathlib import Path; from analyzer.render import pdf\n"
        "from analyzer.errors import MissingExtraError\n"
        "try: pdf.write('<p>', Path('x.pdf'))\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the PDF needs weasyprint, which is not installed: pip install 'serving-analyzer[pdf]'\n"


def test_a_library_of_the_system_that_is_missing_is_named(tmp_path: Path):
    (tmp_path / "weasyprint.py").write_text('raise OSError("cannot load library libpango-1.0-0\\nmore")\n')
    code = (
        "from pathlib import Path; from analyzer.render import pdf\n"
        "from analyzer.errors import MissingExtraError\n"
        "try: pdf.write('<p>', Path('x.pdf'))\n"
        "except MissingExtraError as error: print(error)\n"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith(
        "the PDF needs the pango library, which can't be loaded (cannot load library libpango"
    )


def test_the_templates_of_a_wheel_are_found_first(tmp_path: Path):
    package = tmp_path / "analyzer"
    shutil.copytree(html.templates(), package / "_templates")
    assert html.templates(package) == package / "_templates"
    with pytest.raises(InputError, match="templates are missing"):
        html.templates(tmp_path / "elsewhere" / "analyzer")
