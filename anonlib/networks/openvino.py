"""Run a network file through OpenVINO on the CPU, the same way everywhere."""

from typing import Any


def compile_model(model: Any, threads: int = 1, precision: str = "f32") -> Any:
    """Compile a model for this CPU.

    Args:
        model: A path, or a model that `openvino.Core.read_model` returns.
        threads: CPU threads of a call.
        precision: Type of its products, "f32" or "bf16".

    Returns:
        The compiled model.
    """
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    settings["ENABLE_CPU_PINNING"] = False  # else every process takes the same core
    return ov.Core().compile_model(model, "CPU", settings)
