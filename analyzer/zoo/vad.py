"""``vad``: silero-vad's trained models, which tell speech from silence, in ONNX and in TorchScript.

Both serve streams of sound as sequences. The recurrent state of ``vad`` is kept by the server from request to request;
``vad_torch`` keeps its state inside the module.
"""

import numpy as np
from numpy.typing import NDArray

from analyzer.zoo.input_data import Request
from analyzer.zoo.model_config import ONNX, TORCHSCRIPT, ModelConfig, SequenceConfig, StateConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.wheel import WheelPin, read_member

PIN = WheelPin("silero-vad", "6.2.3", "MIT")
SAMPLE_RATE = 16_000
CHUNK = 512
CONTEXT = 64
"""Samples of the chunk before, put in front of each chunk at this sample rate."""

STATE_SHAPE = (2, 1, 128)
STREAMS = 64
WEIGHTS = f"Weights: the wheel of {PIN}, {PIN.licence}."

ONNX_CONFIG = ModelConfig(
    name="vad",
    kind=ONNX,
    # The state has its batch dimension second, so the server can't put requests together.
    max_batch_size=0,
    inputs=(TensorConfig("input", "FP32", (1, -1)), TensorConfig("sr", "INT64", (1,), scalar=True)),
    outputs=(TensorConfig("output", "FP32", (1, 1)),),
    sequence=SequenceConfig(STREAMS, (StateConfig("state", "stateN", "FP32", STATE_SHAPE),)),
    comment=(
        f"Probability of speech in a chunk of sound: {CONTEXT} samples of context and {CHUNK} new ones at 16 kHz.\n"
        f"A stream is a sequence; up to {STREAMS} of them take turns on an instance.\n{WEIGHTS}"
    ),
)

TORCH_CONFIG = ModelConfig(
    name="vad_torch",
    kind=TORCHSCRIPT,
    max_batch_size=0,
    inputs=(TensorConfig("x", "FP32", (-1, CHUNK)), TensorConfig("sr", "INT64", (1,))),
    outputs=(TensorConfig("OUTPUT__0", "FP32", (-1, 1)),),
    sequence=SequenceConfig(),
    parameters=(("reset_method", "reset_states"),),
    comment=(
        "Probability of speech in a chunk of sound. The module keeps context and state itself, so an instance serves\n"
        "one stream (a sequence) at a time; its method reset_states is called where a stream starts.\n"
        "Its second argument is a number, not a tensor: x, sr: int.\n"
        f"{WEIGHTS}"
    ),
)


def build(build: Build) -> None:
    wheel = build.wheels.fetch(PIN)
    sound = synthetic_sound()
    version = start_model_folder(build.staging, ONNX_CONFIG, onnx_requests(sound))
    (version / "model.onnx").write_bytes(read_member(wheel, "silero_vad/data/silero_vad.onnx"))
    version = start_model_folder(build.staging, TORCH_CONFIG, _torch_requests(sound))
    (version / "model.pt").write_bytes(read_member(wheel, "silero_vad/data/silero_vad.jit"))


def onnx_requests(sound: NDArray[np.float32]) -> list[Request]:
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    rate = np.array([SAMPLE_RATE], np.int64)
    starts = range(0, len(sound) - CHUNK + 1, CHUNK)
    return [{"input": padded[None, at : at + CONTEXT + CHUNK], "sr": rate} for at in starts]


def _torch_requests(sound: NDArray[np.float32]) -> list[Request]:
    rate = np.array([SAMPLE_RATE], np.int64)
    return [{"x": sound[None, at : at + CHUNK], "sr": rate} for at in range(0, len(sound) - CHUNK + 1, CHUNK)]


def synthetic_sound() -> NDArray[np.float32]:
    """Two seconds: quiet noise, then a vowel-like sound from the first second on.

    The vowel is a sum of harmonics of a gliding pitch, weighted by three formants (those of an open "a").
    """
    time_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    pitch_hz = 120 + 15 * np.sin(2 * np.pi * 1.5 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    voice = np.zeros_like(time_s)
    for harmonic in range(1, 33):
        frequency_hz = harmonic * pitch_hz
        gain = sum(1 / (1 + ((frequency_hz - formant) / 90) ** 2) for formant in (730, 1090, 2440))
        voice += gain * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 4 * time_s), 0, 1) * (time_s >= 1)
    noise = np.random.default_rng(0).normal(0, 1e-3, len(time_s))
    sound: NDArray[np.float32] = (0.3 * voice / np.abs(voice).max() * syllables + noise).astype(np.float32)
    return sound
