"""Settings of torch that depend on the machine: threads, torchvision beside a CPU build, device and fast type."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


def fast_dtype(device: str) -> "torch.dtype":
    """Return torch.bfloat16 where this device multiplies it faster than float32, else torch.float32.

    A CPU with AMX does, and AMD's with AVX-512; Intel's without AMX are slower in it, see docs/decisions.md.

    Args:
        device: "cpu" or "cuda".

    Returns:
        The type.
    """
    import torch

    if device != "cpu":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    amd = able.get("avx512_bf16") and "amd" in str(able.get("cpu_name", "")).lower()
    return torch.bfloat16 if able.get("amx_bf16") or amd else torch.float32


def autocast(device: str, dtype: "torch.dtype | None" = None) -> "torch.autocast":
    """Return the context in which torch multiplies in `dtype`; the rest stays float32.

    Args:
        device: "cpu" or "cuda".
        dtype: None: `fast_dtype`.

    Returns:
        The context; it does nothing for float32.
    """
    import torch

    dtype = dtype or fast_dtype(device)
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
