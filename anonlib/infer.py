"""Run a network file through OpenVINO on the CPU, the same way everywhere."""

from typing import Any


def compiled(model: Any, threads: int = 1) -> Any:
    """Return a model (a path, or what `openvino.Core.read_model` gives) compiled for this CPU, in float32."""
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    settings["ENABLE_CPU_PINNING"] = False  # or every process takes the same core
    return ov.Core().compile_model(model, "CPU", settings)
