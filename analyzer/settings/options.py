"""From declared options to checked settings: a settings file, then flags; all mistakes are told at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
import yaml

from analyzer.domain.record import Record
from analyzer.errors import InputError, UsageError
from analyzer.settings.values import Parse, switch


@dataclass(frozen=True, slots=True)
class Option:
    """One option as flags and files see it. ``parse`` takes a string or a YAML value and raises ValueError."""

    field: str
    key: str
    parse: Parse
    help: str
    default: object
    metavar: str
    short: str
    section: str
    repeated: bool
    is_switch: bool
    is_required: bool

    @property
    def flag(self) -> str:
        return flag_of(self.key)


def option(parse: Parse, text: str, metavar: str, **extra: object) -> msgspec.Meta:
    """Annotation that makes a field of a settings record an option.

    ``key`` is its name in files and flags where it differs from the field's (units are in field names only), ``short``
    a one-letter flag, ``repeated`` lets the flag be given more than once, ``section`` heads the options from here on.
    """
    return msgspec.Meta(description=text, extra={"parse": parse, "metavar": metavar, **extra})


class Settings(Record, frozen=True):
    """Base of a settings record."""

    def complaints(self) -> Iterator[str]:
        """What does not fit together, a sentence each."""
        yield from ()


S = TypeVar("S", bound=Settings)


def options_of(settings: type[Settings]) -> tuple[Option, ...]:
    """The options of a settings class, in the order they are declared."""
    declared = {field.name: field for field in msgspec.structs.fields(settings)}
    found = []
    for field, hint in get_type_hints(settings, include_extras=True).items():
        meta = next((item for item in getattr(hint, "__metadata__", ()) if isinstance(item, msgspec.Meta)), None)
        if meta is None or meta.extra is None:
            continue
        extra = meta.extra
        found.append(
            Option(
                field=field,
                key=extra.get("key", field),
                parse=extra["parse"],
                help=meta.description or "",
                default=None if declared[field].default is msgspec.NODEFAULT else declared[field].default,
                is_required=declared[field].required,
                metavar=extra["metavar"],
                short=extra.get("short", ""),
                section=extra.get("section", ""),
                repeated=extra.get("repeated", False),
                is_switch=extra["parse"] is switch,
            )
        )
    return tuple(found)


def settings_from(settings: type[S], file: Path | None, flags: Mapping[str, object]) -> S:
    """File, then flags (by field name, given ones only), to checked settings.

    Raises:
        UsageError: with every mistake, a line each.
    """
    keys = {option.field: option.key for option in options_of(settings)}
    given = {key: (f"{file}: {key}", value) for key, value in (read_file(file) if file else {}).items()}
    given |= {keys[field]: (flag_of(keys[field]), value) for field, value in flags.items()}
    return checked(settings, given)


def checked(settings: type[S], given: Mapping[str, tuple[str, object]]) -> S:
    """Raw values by key, each with where it was given, to checked settings. Raises UsageError as ``settings_from``."""
    options = {option.key: option for option in options_of(settings)}
    mistakes = []
    values: dict[str, Any] = {}
    for key, (where, value) in given.items():
        if key not in options:
            near = get_close_matches(key.replace("-", "_"), options, n=1)
            mend = f"did you mean {near[0]}?" if near else f"known are {', '.join(options)}"
            mistakes.append(f"{where} is no option; {mend}")
            continue
        try:
            values[options[key].field] = options[key].parse(value)
        except ValueError as error:
            mistakes.append(f"{where} {_refused(str(error), value)}")
    missing = [option.flag for option in options.values() if option.is_required and option.key not in given]
    mistakes += [f"{flag} is needed" for flag in missing]
    if not mistakes:
        made = settings(**values)
        mistakes = list(made.complaints())
        if not mistakes:
            return made
    raise UsageError("\n".join(mistakes))


def _refused(reason: str, value: object) -> str:
    """What is wrong, and the value where the reason does not hold it already."""
    given = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return reason if repr(given) in reason or reason.endswith("?") else f"{reason}, not {given!r}"


def flag_of(key: str) -> str:
    return "--" + key.replace("_", "-")


class _Loader(yaml.SafeLoader):
    """YAML without numbers of base 60, which would make of a range such as ``1:4`` the number 64."""


def _int(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    return node.value if ":" in node.value else loader.construct_yaml_int(node)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    return node.value if ":" in node.value else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_file(file: Path) -> dict[str, object]:
    """A settings file as it stands. Raises InputError."""
    try:
        content = yaml.load(file.read_text(), _Loader)
    except OSError as error:
        raise InputError(f"settings file {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"settings file {file} can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"settings file {file} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"settings file {file} must hold `option: value` lines")
    return {str(key): value for key, value in content.items()}
