"""The papers' architectures as data for `diagrams.flow`: real images and boxes, with places in inches."""

from typing import Any

import numpy as np
import pandas as pd

METHOD = {
    "height": 2.75,
    "arrows": [
        ["photo", "edges"],
        ["photo", "depth"],
        ["edges", "diffusion"],
        ["depth", "diffusion"],
        ["diffusion", "anonymized"],
        ["anonymized", "attacker"],
        ["attacker", "first"],
        ["attacker", "second"],
        ["attacker", "third"],
    ],
}
FRAMEWORK = {
    "height": 3.0,
    "arrows": [
        ["photo", "b1"],
        ["b1", "h1"],
        ["h1", "z"],
        ["anonymized", "b2"],
        ["b2", "h2"],
        ["h2", "z_hat"],
        ["z", "z_hat"],
        ["z_hat", "z"],
        ["z", "other"],
        ["z", "other_anonymized"],
    ],
}


BASE = {
    "height": 3.75,
    "arrows": [
        ["photo", "depth"],
        ["photo", "caption"],
        ["photo", "latent"],
        ["lineart", "controls"],
        ["caption", "controls"],
        ["latent", "identity"],
        ["controls", "step"],
        ["identity", "step"],
        ["step", "anonymized"],
    ],
}
LIGHT = {
    "height": 2.75,
    "arrows": [
        ["photo", "encoder"],
        ["photo", "reader"],
        ["encoder", "ip"],
        ["reader", "code"],
        ["code", "adapter"],
        ["ip", "unet"],
        ["adapter", "unet"],
        ["unet", "anonymized"],
    ],
}


def method_data(
    photo: np.ndarray, edges: np.ndarray, depth: np.ndarray, anonymized: np.ndarray, references: np.ndarray
) -> dict[str, Any]:
    """Build Figure 1: a photo, its control maps, the inpainted photo, and the people that the attacker ranks.

    Args:
        photo, edges, depth, anonymized: (128, 128, 3) uint8; edges is the HED map.
        references: One photo of each of three people, (3, 128, 128, 3).

    Returns:
        "table" of nodes and "images", for `diagrams.flow`.
    """
    nodes = [
        ("photo", 0.55, 1.45, 0.95, 0.95, "photo", 0),
        ("edges", 1.85, 2.15, 0.8, 0.8, "HED edges", 1),
        ("depth", 1.85, 0.8, 0.8, 0.8, "depth", 2),
        ("diffusion", 3.1, 1.45, 1.05, 0.85, "latent diffusion\ninpaints the\nperson under\ncontrol", None),
        ("anonymized", 4.35, 1.45, 0.95, 0.95, "anonymized", 3),
        ("attacker", 5.5, 1.45, 0.85, 0.85, "attacker:\nembeds,\nranks people", None),
        ("first", 6.6, 2.3, 0.65, 0.65, "", 4),
        ("second", 6.6, 1.45, 0.65, 0.65, "", 5),
        ("third", 6.6, 0.6, 0.65, 0.65, "", 6),
    ]
    return {"table": _table(nodes), "images": np.stack([photo, edges, depth, anonymized, *references])}


def framework_data(
    photo: np.ndarray, anonymized: np.ndarray, other: np.ndarray, other_anonymized: np.ndarray
) -> dict[str, Any]:
    """Build Figure 2: photos and anonymized photos of one person attract each other and repel other people's.

    Args:
        photo, anonymized: A person's photo (128, 128, 3) uint8, and the person's anonymized photo.
        other, other_anonymized: The same of another person.

    Returns:
        "table" of nodes and "images", for `diagrams.flow`.
    """
    nodes = [
        ("photo", 0.75, 2.3, 0.95, 0.95, "photo of person k", 0),
        ("anonymized", 0.75, 0.85, 0.95, 0.95, "person k, anonymized", 1),
        ("b1", 2.0, 2.3, 0.9, 0.6, "backbone B", None),
        ("b2", 2.0, 0.85, 0.9, 0.6, "backbone B", None),
        ("h1", 3.2, 2.3, 0.75, 0.6, "head H", None),
        ("h2", 3.2, 0.85, 0.75, 0.6, "head H", None),
        ("z", 4.4, 2.3, 0.9, 0.6, "$z_k$", None),
        ("z_hat", 4.4, 0.85, 0.9, 0.6, "$\\hat{z}_k$\npulled to $z_k$", None),
        ("other", 6.2, 2.3, 0.95, 0.95, "$z_j$ of others: pushed away", 2),
        ("other_anonymized", 6.2, 0.85, 0.95, 0.95, "$\\hat{z}_j$ of others: pushed away", 3),
    ]
    return {"table": _table(nodes), "images": np.stack([photo, anonymized, other, other_anonymized])}


def base_data(photo: np.ndarray, maps: dict[str, np.ndarray], anonymized: np.ndarray) -> dict[str, Any]:
    """Build CAMOUFLaGE-Base (the paper's Figure 2): five maps and a caption attract, the identity function repels.

    Args:
        photo, anonymized: (128, 128, 3) uint8.
        maps: Its control maps by condition, of the same shape.

    Returns:
        "table" of nodes and "images", for `diagrams.flow`.
    """
    nodes = [("photo", 0.5, 2.0, 0.85, 0.85, "photo", 0)]
    nodes += [(name, 1.75 + 0.62 * place, 3.3, 0.56, 0.56, "", 1 + place) for place, name in enumerate(maps)]
    nodes += [
        ("caption", 2.9, 2.0, 0.9, 0.32, "caption", None),
        ("latent", 2.9, 0.75, 0.9, 0.32, "latent", None),
        ("controls", 4.6, 2.0, 1.1, 0.95, "ControlNets\nand UNet,\nguided by text:\n$\\epsilon_{pos}$", None),
        ("identity", 4.6, 0.75, 1.1, 0.6, "identity function\nand UNet: $\\epsilon_{idf}$", None),
        ("step", 6.2, 2.0, 1.4, 0.75, "$\\epsilon_{idf} + a_s(\\epsilon_{pos} - \\epsilon_{idf})$\nat each step", None),
        ("anonymized", 6.2, 0.75, 0.85, 0.85, "anonymized", 1 + len(maps)),
    ]
    return {"table": _table(nodes), "images": np.stack([photo, *maps.values(), anonymized])}


def light_data(photo: np.ndarray, code: np.ndarray, anonymized: np.ndarray) -> dict[str, Any]:
    """Build CAMOUFLaGE-Light (the paper's Figure 3): image embedding and spatial code.

    Args:
        photo, anonymized: (128, 128, 3) uint8.
        code: Its spatial code as a picture.

    Returns:
        "table" of nodes and "images", for `diagrams.flow`.
    """
    nodes = [
        ("photo", 0.5, 1.45, 0.85, 0.85, "photo", 0),
        ("encoder", 1.75, 2.2, 0.95, 0.55, "image encoder:\nembedding", None),
        ("reader", 1.75, 0.75, 0.95, 0.55, "40 attributes,\nface points", None),
        ("code", 3.0, 0.75, 0.8, 0.8, "code, by person", 1),
        ("ip", 4.1, 2.2, 0.95, 0.55, "IP-Adapter", None),
        ("adapter", 4.1, 0.75, 0.95, 0.55, "T2I-Adapter", None),
        ("unet", 5.3, 1.45, 0.95, 0.6, "UNet, frozen", None),
        ("anonymized", 6.45, 1.45, 0.85, 0.85, "anonymized", 2),
    ]
    return {"table": _table(nodes), "images": np.stack([photo, code, anonymized])}


def _table(nodes: list[tuple]) -> pd.DataFrame:
    columns = ["name", "x", "y", "width", "height", "text", "image"]
    return pd.DataFrame(nodes, columns=columns).astype({"image": float})
