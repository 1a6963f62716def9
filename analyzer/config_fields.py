"""Any field of ``config.pbtxt`` by its dotted path: checked against Triton's schema, and set in a configuration.

``instance_group.kind`` is the kind of every entry, ``instance_group.0.kind`` of the first; ``parameters.KEY`` is its
string value (the key may hold dots). A message is given as text: JSON, or protobuf text format.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.run import Edit, EditValue

_WHOLE = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_REAL = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Step:
    """One field on the way, and which entry of it: a place in a list, the key of a map, None for all."""

    field: FieldDescriptor
    entry: int | str | None = None


def apply_edits(config: ModelConfig, edits: Iterable[Edit]) -> None:
    """Set the fields in place, in the order given."""
    for edit in edits:
        _set(config, steps_of(edit.path), edit.value)


def normalised(path: str, raw: object) -> EditValue:
    """A value as text or from YAML to what the field takes. Raises ValueError with a sentence for the user."""
    *_, last = steps_of(path)
    value = _value(last, raw.strip() if isinstance(raw, str) else raw)
    try:
        apply_edits(ModelConfig(), [Edit(path=path, value=value)])
    except (ValueError, TypeError, json_format.ParseError, text_format.ParseError) as error:
        raise ValueError(f"{path} does not take {_shown(raw)}: {' '.join(str(error).split())}") from None
    return value


def steps_of(path: str) -> tuple[Step, ...]:
    """Raises ValueError with the nearest name where there is no such field."""
    descriptor: Descriptor | None = ModelConfig.DESCRIPTOR
    words = path.split(".")
    steps: list[Step] = []
    while words:
        if descriptor is None:
            raise ValueError(f"{path}: {steps[-1].field.name} is a value and has no field {words[0]}")
        field = descriptor.fields_by_name.get(words.pop(0))
        if field is None:
            raise ValueError(_unknown(path, len(path.split(".")) - len(words) - 1, descriptor))
        descriptor = field.message_type
        entry: int | str | None = None
        if _is_map(field):
            if words:
                entry, words = ".".join(words), []
        elif field.is_repeated and words and words[0].isdigit():
            entry = int(words.pop(0))
        steps.append(Step(field, entry))
    return tuple(steps)


def _unknown(path: str, place: int, descriptor: Descriptor) -> str:
    words = path.split(".")
    wrong, before = words[place], ".".join(words[:place])
    near = get_close_matches(wrong, list(descriptor.fields_by_name), n=1, cutoff=0.5)
    where = f"{before} has no field {wrong!r}" if before else f"config.pbtxt has no field {wrong!r}"
    known = ", ".join(sorted(descriptor.fields_by_name))
    meant = ".".join([*words[:place], *near, *words[place + 1 :]])
    return f"{where}; did you mean {meant}?" if near else f"{where}; it has {known}"


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _set(message: Message, steps: tuple[Step, ...], value: EditValue) -> None:
    step, *rest = steps
    if _is_map(step.field) and step.entry is not None:
        _set_key(message, step, value)
    elif rest:
        for child in _children(message, step):
            _set(child, tuple(rest), value)
    elif isinstance(step.entry, int):
        _set_entry(message, step, value)
    else:
        _set_field(message, step.field, value)


def _children(message: Message, step: Step) -> Iterator[Message]:
    """The messages that a step leads to, made where there is none yet."""
    child = getattr(message, step.field.name)
    if not step.field.is_repeated:
        child.SetInParent()
        yield child
        return
    while len(child) <= (step.entry if isinstance(step.entry, int) else 0):
        child.add()
    yield from child if step.entry is None else [child[step.entry]]


def _set_key(message: Message, step: Step, value: EditValue) -> None:
    held = getattr(message, step.field.name)
    if value is None:
        held.pop(step.entry, None)
    elif (inner := _of_map(step.field)).containing_type is step.field.message_type:
        held[step.entry] = value
    else:
        _set_field(held[step.entry], inner, value)


def _of_map(field: FieldDescriptor) -> FieldDescriptor:
    """What a key holds. Triton's maps of messages hold one field each, such as string_value of a parameter."""
    assert field.message_type is not None
    inner = field.message_type.fields_by_name["value"]
    return inner if inner.message_type is None else inner.message_type.fields[0]


def _set_entry(message: Message, step: Step, value: EditValue) -> None:
    held = getattr(message, step.field.name)
    place = step.entry
    assert isinstance(place, int)
    if place >= len(held):
        raise ValueError(f"{step.field.name} has no entry {place}")
    if value is None:
        del held[place]
    elif step.field.message_type is None:
        held[place] = value
    else:
        held[place].Clear()
        _merge(held[place], value)


def _set_field(message: Message, field: FieldDescriptor, value: EditValue) -> None:
    message.ClearField(field.name)
    if value is None:
        return
    if field.message_type is not None and field.is_repeated:
        _merge_field(message, field, value)
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        _merge(child, value)
    elif field.is_repeated:
        getattr(message, field.name).extend(_number(field, item) for item in _tuple(value))
    else:
        setattr(message, field.name, _number(field, value))


def _tuple(value: EditValue) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _number(field: FieldDescriptor, value: object) -> Any:
    """Enumerations are kept by name."""
    return field.enum_type.values_by_name[value].number if field.enum_type and isinstance(value, str) else value


def _merge(message: Message, value: EditValue) -> None:
    parsed = _json(value)
    if isinstance(parsed, dict):
        json_format.ParseDict(parsed, message)
    else:
        text = str(value).strip()
        text_format.Merge(text[1:-1] if text.startswith("{") and text.endswith("}") else text, message)


def _merge_field(message: Message, field: FieldDescriptor, value: EditValue) -> None:
    parsed = _json(value)
    if parsed is not None:
        entries = parsed if isinstance(parsed, list) or _is_map(field) else [parsed]
        json_format.ParseDict({field.name: entries}, message)
        return
    text = str(value).strip()
    text_format.Merge(f"{field.name} {text if text[:1] in '{[' else '{' + text + '}'}", message)


def _json(value: EditValue) -> Any:
    """Parsed JSON of a message or a list; None where the text is none, and so is protobuf text."""
    try:
        parsed = json.loads(str(value))
    except ValueError:
        return None
    return parsed if isinstance(parsed, (dict, list)) else None


def _value(step: Step, raw: object) -> EditValue:
    field = step.field
    if raw is None or raw == "null":
        return None
    if _is_map(field) and step.entry is not None:
        return _scalar(_of_map(field), raw)
    if field.message_type is not None:
        return raw if isinstance(raw, str) else json.dumps(raw, sort_keys=True)
    if field.is_repeated and step.entry is None:
        return tuple(_scalar(field, item) for item in _list(raw))
    return _scalar(field, raw)


def _list(raw: object) -> list[Any]:
    if isinstance(raw, str):
        inside = raw[1:-1] if raw.startswith("[") and raw.endswith("]") else raw
        return [item.strip().strip('"') for item in inside.split(",") if item.strip()]
    return list(raw) if isinstance(raw, (list, tuple)) else [raw]


def _scalar(field: FieldDescriptor, raw: object) -> bool | int | float | str:
    if isinstance(raw, (Mapping, list, tuple)):
        raise ValueError(f"{field.name} takes one value, not {_shown(raw)}")
    if field.enum_type is not None:
        return _enum_name(field.name, list(field.enum_type.values_by_name), str(raw))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        switch = _SWITCHES.get(str(raw).lower())
        if switch is None:
            raise ValueError(f"{field.name} takes true or false, not {_shown(raw)}")
        return switch
    if field.cpp_type in _WHOLE | _REAL:
        return _figure(field, raw)
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return str(raw)


def _figure(field: FieldDescriptor, raw: object) -> int | float:
    try:
        figure = float(str(raw))
    except ValueError:
        raise ValueError(f"{field.name} takes a number, not {_shown(raw)}") from None
    if field.cpp_type in _REAL:
        return figure
    if not figure.is_integer():
        raise ValueError(f"{field.name} takes a whole number, not {_shown(raw)}")
    return int(figure)


def _enum_name(field: str, names: list[str], raw: str) -> str:
    """``cpu`` is as good as ``KIND_CPU``."""
    wanted = raw.upper()
    for name in names:
        if name == wanted or name.endswith(f"_{wanted}"):
            return name
    raise ValueError(f"{field} takes one of {', '.join(names)}, not {_shown(raw)}")


def _shown(raw: object) -> str:
    return raw if isinstance(raw, str) and raw else json.dumps(raw, default=str)
