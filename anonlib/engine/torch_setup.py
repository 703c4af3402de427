"""What depends on the machine: a CPU build of torch beside a CUDA-built torchvision, and the type it is fast in."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def prepare_torch(threads: int | None = None) -> None:
    """Pin the thread count and make torchvision importable; call before importing diffusers, transformers or timm.

    threads: CPU threads for torch in this process, >= 1; None leaves torch's own choice.
    Where torchvision already matches torch this changes nothing: the two operators are only declared when missing.
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

    device: "cpu" or "cuda". A CPU does with AMX, or with AMD's AVX-512 (Zen 4: 212 against 90 GFLOP/s a core). Intel's
    cores without AMX have the instruction and lose by it (a HED map .108 s against .063 s); others emulate it.
    """
    import torch

    if device != "cpu":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    amd = able.get("avx512_bf16") and "amd" in str(able.get("cpu_name", "")).lower()
    return torch.bfloat16 if able.get("amx_bf16") or amd else torch.float32


def autocast(device: str, dtype: "torch.dtype | None" = None) -> "torch.autocast":
    """Return the context in which torch multiplies in `dtype`, None for `fast_dtype`; the rest stays float32."""
    import torch

    dtype = dtype or fast_dtype(device)
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)
