"""anonlib: does a diffusion model that keeps your edges and depth really anonymize you?"""

import os

__version__ = "0.1.0"

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # read when cv2 is first imported: its remarks are for its makers
