"""What to write into ``config.pbtxt``, which depends on the backend that serves a model."""

from analyzer.timeline.rules.case import Case

_TENSORRT = (
    "optimization {{ execution_accelerators {{ gpu_execution_accelerator : [ {{ "
    'name : "tensorrt" parameters {{ key: "{key}" value: "{value}" }} }} ] }} }}'
)
_PYTORCH = 'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def for_graphs(case: Case) -> str:
    """Launches of a whole batch as one. ONNX Runtime has graphs by way of TensorRT only, PyTorch for sizes it is told;
    of another backend the field is named that Triton has for it.
    """
    match _backend(case):
        case "pytorch":
            return _PYTORCH.format(key="cuda_graph_batch_sizes", value="1,8,32")
        case "onnxruntime":
            return _TENSORRT.format(key="trt_cuda_graph_enable", value="1")
    return "optimization { cuda { graphs: true } }"


def for_precision(case: Case) -> str:
    if _backend(case) == "pytorch":
        return _PYTORCH.format(key="precision", value="fp16")
    return _TENSORRT.format(key="precision_mode", value="FP16")


def _backend(case: Case) -> str:
    """The one backend of all models that are known, by the name before a platform's format; else nothing."""
    known = {facts.backend.partition("_")[0] for facts in case.models.values() if facts.backend}
    return known.pop() if len(known) == 1 else ""
