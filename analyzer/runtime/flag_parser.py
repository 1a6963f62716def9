"""A command line parser that answers a wrong flag with the nearest one."""

import argparse
import re
from difflib import get_close_matches
from typing import NoReturn


class FlagParser(argparse.ArgumentParser):
    """Of a mistake one sentence is told; the usage of fifty flags above it would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}{self._nearest(message)}; see --help\n")

    def _nearest(self, message: str) -> str:
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        known = re.findall(r"--[a-z][\w-]+", self.format_help())
        near = get_close_matches(unknown[1], known, n=1) if unknown else []
        return f"; did you mean {near[0]}?" if near else ""
