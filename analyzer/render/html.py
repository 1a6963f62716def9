"""A ReportView to one HTML page that needs nothing beside it: style, script and charts are inside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analyzer.errors import InputError
from analyzer.render.view import ReportView, SummaryView


def render(view: ReportView | SummaryView) -> str:
    """Everything is escaped but the charts, the style and the script, which are our own."""
    folder = templates()
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = Markup
    style = Markup((folder / "style.css").read_text(encoding="utf-8"))
    script = Markup((folder / "page.js").read_text(encoding="utf-8"))
    template = "report.html.j2" if isinstance(view, ReportView) else "summary.html.j2"
    return environment.get_template(template).render(view=view, style=style, script=script)


PACKAGE = Path(__file__).resolve().parent.parent


def templates(package: Path = PACKAGE) -> Path:
    """The templates that a wheel carries inside the package, or those of a checkout beside it."""
    for folder in (package / "_templates", package.parent / "templates"):
        if (folder / "report.html.j2").is_file():
            return folder
    raise InputError(f"the report's templates are missing beside {package}; install the package again")
