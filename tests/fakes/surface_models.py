"""The models that the contract tests ask our runtime and a real Triton the same about."""

from pathlib import Path

from tests.fakes.repositories import write_add_sub, write_ensemble, write_python

REPEAT = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
            for _ in range(2):
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
FAILS = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("mine")) for _ in requests]
"""
SUMS = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            number = int(given["CORRID"].ravel()[0])
            before = 0 if given["START"].ravel()[0] else self.sums.get(number, 0)
            self.sums[number] = before + given["INPUT0"]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", self.sums[number])]))
        return responses
"""
SEQUENCE = """\
sequence_batching {
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
}
"""


def write_models(repository: Path) -> None:
    write_add_sub(repository)
    write_ensemble(repository)
    write_python(repository, "sums", SUMS, dims=(1,), max_batch_size=2, extra=SEQUENCE)
    write_python(repository, "free", dims=(-1,))
    write_python(repository, "rows", dims=(4,), max_batch_size=2)
    write_python(repository, "texts", type_name="TYPE_STRING", dims=(1,))
    write_python(repository, "halves", type_name="TYPE_FP16", dims=(-1,))
    write_python(repository, "repeat", REPEAT, dims=(-1,), extra="model_transaction_policy { decoupled: true }")
    write_python(repository, "fails", FAILS, dims=(-1,))
    write_python(repository, "broken", "import nothing_here\n")
    labelled = write_python(repository, "labelled", dims=(4,), max_batch_size=2)
    config = labelled / "config.pbtxt"
    output = 'output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ]'
    config.write_text(config.read_text().replace(output, f'{output} label_filename: "labels.txt"'))
    (labelled / "labels.txt").write_text("cat\ndog\nbird\n")
