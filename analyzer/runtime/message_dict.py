"""A protobuf message to plain data in the form of Triton's JSON: 64-bit numbers as numbers, enums by name."""

from typing import Any

from google.protobuf.message import Message


def message_dict(message: Message) -> dict[str, Any]:
    """Every field under its own name; messages that are not set and the unset arms of a oneof are left out."""
    result: dict[str, Any] = {}
    fields: Any = message.DESCRIPTOR.fields
    for field in fields:
        value = getattr(message, field.name)
        if _is_map(field):
            item = field.message_type.fields_by_name["value"]
            result[field.name] = {str(key): _plain(item, value[key]) for key in value}
        elif hasattr(value, "extend"):  # repeated; FieldDescriptor says so differently across protobuf releases
            result[field.name] = [_plain(field, item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            result[field.name] = _plain(field, value)
    return result


def _is_map(field: Any) -> bool:
    """``field`` is a FieldDescriptor, which has a class of its own in each of protobuf's implementations."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return message_dict(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value
