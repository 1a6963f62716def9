"""Errors of the load generator that a user can mend, each with the exit code it becomes."""


class LoadError(Exception):
    """Says in one sentence what is wrong and how to mend it.

    Exit codes: 2 wrong usage, 3 input data that can't be used, 5 a server that can't be reached or isn't KServe, 6 a
    file that can't be written.
    """

    def __init__(self, message: str, exit_code: int = 5) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def usage_error(message: str) -> LoadError:
    return LoadError(message, exit_code=2)


def data_error(message: str) -> LoadError:
    return LoadError(message, exit_code=3)


def server_error(message: str) -> LoadError:
    return LoadError(message, exit_code=5)


def write_error(message: str) -> LoadError:
    return LoadError(message, exit_code=6)
