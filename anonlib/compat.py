"""Let the pinned stack work on machines whose torch is a CPU build beside a CUDA-built torchvision."""

import os


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
