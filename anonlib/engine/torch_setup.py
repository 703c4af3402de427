"""Settings of torch that depend on the machine: threads, torchvision beside a CPU build, device and fast type."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BFLOAT16_FROM = (8, 0)  # the first compute capability of NVIDIA that multiplies bfloat16


def prepare_torch(threads: int | None = None) -> None:
    """Pin the thread count and make torchvision importable; call it before diffusers or timm are imported.

    Where torchvision matches torch nothing changes: its two operators are declared only when they are missing.

    Args:
        threads: CPU threads of torch in this process, 1 or more; None: torch's own choice.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # "operator torchvision::nms does not exist": its C++ part was built for another torch
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
    except ImportError:
        pass  # diffusers and transformers work without torchvision


def device() -> str:
    """Return "cuda" where there is a GPU that torch can use, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def fast_dtype(device: str, training: bool = False) -> "torch.dtype":
    """Return the type in which this device multiplies fastest without losing a result.

    A CPU with AMX is faster in bfloat16, and AMD's with AVX-512; Intel's without AMX are slower, see
    docs/decisions.md. A GPU without bfloat16 (compute capability below 8) takes float16, but float32 in a training:
    small gradients become zero in float16.

    Args:
        device: "cpu" or "cuda".
        training: Whether gradients are computed.

    Returns:
        torch.bfloat16, torch.float16 or torch.float32.
    """
    import torch

    if device != "cpu":
        if torch.cuda.get_device_capability() >= BFLOAT16_FROM:
            return torch.bfloat16
        return torch.float32 if training else torch.float16
    able = torch.cpu.get_capabilities()
    amd = able.get("avx512_bf16") and "amd" in str(able.get("cpu_name", "")).lower()
    return torch.bfloat16 if able.get("amx_bf16") or amd else torch.float32


def autocast(device: str, dtype: "torch.dtype | None" = None, training: bool = False) -> "torch.autocast":
    """Return the context in which torch multiplies in `dtype`; the rest stays float32.

    Args:
        device: "cpu" or "cuda".
        dtype: None: `fast_dtype`.
        training: Whether gradients are computed.

    Returns:
        The context; it does nothing for float32.
    """
    import torch

    dtype = dtype or fast_dtype(device, training)
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def optimizer_step(optimizer: "torch.optim.Optimizer", loss: "torch.Tensor") -> None:
    """Take one optimizer step.

    Args:
        optimizer: The optimizer; its gradients are cleared first.
        loss: A scalar.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
