"""A scene enlarged to any size: drawing at 800 pixels takes ten seconds, enlarging a thousandth of that."""

from dataclasses import replace

import numpy as np
from PIL import Image

from workbench.data.scenes.scene import Scene


def enlarged(scene: Scene, size: tuple[int, int]) -> Scene:
    """The scene at `size` (height, width), which need not have its shape; boxes and the like follow the image.

    ValueError on the ladder, whose distances would no longer be true.
    """
    height, width = size
    if scene.distances.any():
        raise ValueError("Scenes with a dot at a stated distance keep their size; leave it out.")
    down, right = height / scene.image.shape[0], width / scene.image.shape[1]

    def resized(array: np.ndarray, how: Image.Resampling = Image.Resampling.NEAREST) -> np.ndarray:
        return np.asarray(Image.fromarray(array).resize((width, height), how))

    return replace(
        scene,
        image=resized(scene.image, Image.Resampling.BILINEAR),
        boxes=scene.boxes * np.array([right, down] * 2, np.float32),
        centres=scene.centres * np.array([right, down], np.float32),
        keypoints=scene.keypoints * np.array([right, down, 1], np.float32),
        areas=scene.areas * np.float32(down * right),
        masks=np.array([resized(mask) for mask in scene.masks], np.uint8).reshape(-1, height, width),
        semantic=resized(scene.semantic),
    )
