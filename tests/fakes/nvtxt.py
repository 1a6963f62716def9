"""Reads NVTXT strictly: a line that the format does not have, or a row without its definition, is an error."""

import re
from dataclasses import dataclass

_FIELDS = {"RangeStartEnd": "Start, End, ThreadId, Message", "Marker": "Time, ThreadId, Message"}
_SETTINGS = ("ProcessId", "CategoryId", "Color", "TimeBase")
_ROW = re.compile(r'(\w+), (\d+)(?:, (\d+))?, (\d+), "([^"]*)"')


@dataclass(frozen=True)
class NvtxtEvent:
    process: int
    category: int
    thread: int
    start_ns: int
    end_ns: int
    message: str


def read(text: str) -> list[NvtxtEvent]:
    first, *lines = text.removesuffix("\n").split("\n")
    assert first.startswith("SetFileDisplayName, "), first
    defined, settings, found = "", {}, []
    for line in lines:
        if line.startswith("@"):
            defined, fields = line[1:].split(", ", 1)
            assert _FIELDS[defined] == fields, line
            settings = {}
        elif row := _ROW.fullmatch(line):
            assert tuple(settings) == _SETTINGS, settings
            assert settings["TimeBase"] == "Manual"
            assert row[1] == defined, line
            assert (row[3] is None) == (defined == "Marker"), line
            process, category = int(settings["ProcessId"]), int(settings["CategoryId"])
            found.append(NvtxtEvent(process, category, int(row[4]), int(row[2]), int(row[3] or row[2]), row[5]))
        else:
            key, value = line.split(" = ")
            settings[key] = value
    return found
