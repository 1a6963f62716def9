"""The one place that states the version; the wheel, both commands and every result file read it here."""

__version__ = "0.1.0"
