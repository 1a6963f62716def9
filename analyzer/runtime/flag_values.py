"""The texts of command-line flags to values; what a flag can't take is said in a sentence."""

import argparse

Port = int | None
"""None: that front end is off. 0: the system picks a free one."""

_SPAN_ROWS = 2**17


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port; give a number from 0 to 65535")
    return int(text)


def port_or_off(text: str) -> Port:
    return None if text == "off" else port(text)


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def whole(text: str) -> int:
    return 0 if text == "0" else positive(text)


def cache_bytes(text: str) -> int:
    name, _, size = text.partition(",")
    if name != "local" or not size.startswith("size="):
        raise argparse.ArgumentTypeError(f"'{text}' is not a cache; give local,size=BYTES")
    return positive(size.removeprefix("size="))


def span_rows(text: str) -> int:
    if text == "off":
        return 0
    return _SPAN_ROWS if text == "on" else positive(text)


def resource(text: str) -> tuple[str, int, int | None]:
    name, *numbers = text.split(":")
    if not name or not 1 <= len(numbers) <= 2 or not all(item.isascii() and item.isdigit() for item in numbers):
        raise argparse.ArgumentTypeError(f"'{text}' is not a resource; give NAME:COUNT or NAME:COUNT:DEVICE")
    return name, int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else None


def trace_setting(text: str) -> tuple[str, str, str]:
    setting, _, value = text.partition("=")
    mode, _, name = setting.rpartition(",")
    if not name or not value or mode not in ("", "triton", "opentelemetry"):
        raise argparse.ArgumentTypeError(f"'{text}' is no trace setting; give triton,NAME=VALUE or NAME=VALUE")
    return mode, name, value


def milliseconds(text: str) -> float:
    return positive(text) / 1000


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return value


def boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
