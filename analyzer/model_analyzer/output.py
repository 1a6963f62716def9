"""What Model Analyzer's options say of the files that are written."""

from analyzer.domain.record import Record
from analyzer.model_analyzer.tables import GPU_FILE, INFERENCE_FILE, SERVER_FILE, TableFields


class Output(Record, frozen=True):
    """Where its files go and what stands in them. ``variants`` is the folder of the variants' repository, or empty.

    The ``configs_per_model`` best configurations of each model get a detailed report.
    """

    folder: str = "."
    inference_file: str = INFERENCE_FILE
    gpu_file: str = GPU_FILE
    server_file: str = SERVER_FILE
    fields: TableFields = TableFields()
    variants: str = ""
    may_override: bool = False
    has_summary: bool = True
    has_detailed: bool = True
    configs_per_model: int = 3
