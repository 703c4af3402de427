"""FSA-Net (Yang et al., CVPR 2019): yaw and pitch of a head."""

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from anonlib.assets import asset_path

if TYPE_CHECKING:
    import onnxruntime

SIZE = 64  # px of the network's input


def head_pose(image: np.ndarray) -> tuple[float, float]:
    """Estimate the pose of the head in an aligned image.

    Args:
        image: (128, 128, 3) uint8.

    Returns:
        Yaw and pitch in degrees.
    """
    face = cv2.resize(image[..., ::-1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    face = cv2.normalize(face, None, alpha=0, beta=255, norm_type=cv2.NORM_MINMAX).astype(np.float32)
    session = _session()
    yaw, pitch, _ = session.run(None, {session.get_inputs()[0].name: face[None]})[0].ravel()
    return float(yaw), float(pitch)


@lru_cache(maxsize=1)
def _session() -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(asset_path("head-pose")), options, providers=["CPUExecutionProvider"])
