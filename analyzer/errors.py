"""Errors that a user can mend, each with the exit code it becomes. Anything else is a bug and keeps its traceback.

Exit codes: 0 done; 1 a bug; 2 wrong usage or settings; 3 a file or folder can't be used;
4 an optional part is not installed; 5 a server or the load generator could not be run; 6 nothing meets the budget;
130 interrupted.
"""


class AnalyzerError(Exception):
    """Says in one sentence what is wrong and how to mend it."""

    exit_code = 1


class UsageError(AnalyzerError):
    exit_code = 2


class InputError(AnalyzerError):
    """A file or folder that was given can't be used."""

    exit_code = 3


class MissingExtraError(AnalyzerError):
    exit_code = 4


class ChildError(AnalyzerError):
    """The serving runtime or the load generator could not be started, or died. ``log_tail`` is what it said last."""

    exit_code = 5

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail


class UnusableModelError(ChildError):
    """The serving runtime refused a model: a file is to be mended, not the server."""

    exit_code = 3


class NothingMeetsBudgetError(AnalyzerError):
    """Raised after the report was written: it still shows the nearest misses."""

    exit_code = 6
