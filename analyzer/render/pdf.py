"""The same page as a PDF, laid out by the page's own print rules."""

import logging
from pathlib import Path

from analyzer.errors import MissingExtraError


def write(page: str, path: Path) -> None:
    """Raises MissingExtraError where the PDF library, or the text library of the system that it needs, is absent."""
    try:
        from weasyprint import HTML
    except ImportError:
        raise MissingExtraError(
            "the PDF needs weasyprint, which is not installed: pip install 'serving-analyzer[pdf]'"
        ) from None
    except OSError as error:
        # weasyprint loads pango at import; without it the import ends in an OSError that names the library.
        raise MissingExtraError(
            f"the PDF needs the pango library, which can't be loaded ({str(error).splitlines()[0]}):"
            " apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        ) from error
    # It warns of each CSS property that is for screens only.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    HTML(string=page, base_url=str(path.parent), url_fetcher=refuse).write_pdf(path)


def refuse(url: str, *args: object, **kwargs: object) -> dict[str, object]:
    """A page that fetched anything would not be self-contained."""
    raise ValueError(f"a report fetches nothing, and this one asked for {url}")
