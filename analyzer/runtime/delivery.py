"""Outputs on their way to a client that wants them otherwise than in the answer: as classes, or in shared memory."""

from collections.abc import Callable, Mapping

import numpy as np

from analyzer.runtime.request import Delivery, InferError, InferRequest, InferResponse, Reply
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.signature import Signature
from analyzer.runtime.wire import Array, invalid

Describe = Callable[[str, str], Signature]
"""Model and version to its signature."""


def read_delivery(tensor: str, parameters: Mapping[str, object]) -> Delivery | None:
    """What the parameters of a tensor say of classes and shared memory; None where they say nothing."""
    classes = _count(tensor, parameters, "classification")
    region = parameters.get("shared_memory_region")
    if region is None:
        return Delivery(classes) if classes else None
    if not isinstance(region, str):
        raise invalid(f"shared_memory_region of '{tensor}' must be the name of a region")
    if classes:
        raise invalid(f"output '{tensor}' can't be given as classes in shared memory")
    if "shared_memory_byte_size" not in parameters:
        raise invalid(f"'{tensor}' has a shared_memory_region, but no shared_memory_byte_size")
    offset = _count(tensor, parameters, "shared_memory_offset")
    return Delivery(0, region, offset, _count(tensor, parameters, "shared_memory_byte_size"))


def check_deliveries(deliveries: Mapping[str, Delivery], memory: SharedMemory) -> None:
    """Refuses places that don't exist before anything is computed for them. Raises InferError."""
    for delivery in deliveries.values():
        if delivery.region:
            memory.check(delivery)


def delivering(request: InferRequest, reply: Reply, memory: SharedMemory, describe: Describe) -> Reply:
    """A reply that puts each answer where the request wants it before it passes it on."""
    deliveries = request.deliveries
    if not deliveries:
        return reply
    check_deliveries(deliveries, memory)
    request.keep_on_device = frozenset(name for name, place in deliveries.items() if memory.is_cuda(place.region))

    def deliver_and_reply(answer: InferResponse | InferError) -> None:
        if isinstance(answer, InferResponse):
            try:
                _deliver(answer, deliveries, memory, describe)
            except InferError as error:
                answer = error
        reply(answer)

    return deliver_and_reply


def _deliver(
    response: InferResponse, deliveries: Mapping[str, Delivery], memory: SharedMemory, describe: Describe
) -> None:
    outputs = dict(response.outputs)
    for name in outputs.keys() & deliveries.keys():
        delivery = deliveries[name]
        if delivery.classes:
            signature = describe(response.model, response.version)
            labels = signature.outputs[name].labels
            outputs[name] = classify(
                name, outputs[name], delivery.classes, labels, batched=signature.max_batch_size > 0
            )
        else:
            memory.write(name, outputs[name], delivery)
            response.placed |= {name}
    response.outputs = outputs


def classify(name: str, array: Array, classes: int, labels: tuple[str, ...], *, batched: bool) -> Array:
    """The highest values of each row, as BYTES of ``value:index`` or ``value:index:label``, the highest first."""
    if array.dtype.kind not in "iuf":
        raise invalid(f"output '{name}' holds no numbers, so it can't be given as classes")
    rows = array.reshape(array.shape[0], -1) if batched else array.reshape(1, -1)
    # Stable on the negated order, so that of equal values the first index comes first.
    order = np.argsort(rows[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :classes]
    order = rows.shape[1] - 1 - order
    texts = np.empty(order.shape, dtype=np.object_)
    for at, index in np.ndenumerate(order):
        value = rows[at[0], index]
        text = f"{value:f}" if array.dtype.kind == "f" else str(value)
        label = f":{labels[index]}" if index < len(labels) else ""
        texts[at] = f"{text}:{index}{label}".encode()
    return texts if batched else texts[0]


def _count(tensor: str, parameters: Mapping[str, object], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise invalid(f"parameter '{name}' of '{tensor}' must be a whole number")
    return value
