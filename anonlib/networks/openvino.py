"""Run a network file through OpenVINO on the CPU, the same way everywhere."""

from typing import Any


def compile_model(model: Any, threads: int = 1, precision: str = "f32") -> Any:
    """Return a model (a path, or what `openvino.Core.read_model` gives) compiled for this CPU.

    precision: of its products, "f32" or "bf16".
    """
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    settings["ENABLE_CPU_PINNING"] = False  # or every process takes the same core
    return ov.Core().compile_model(model, "CPU", settings)
