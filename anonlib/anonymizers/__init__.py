"""The anonymizers by name. Diffusion stands beside blur and pixelation and obeys the same contract."""

from anonlib.anonymizers.contract import OK, STATUSES, Anonymizer, image_seed
from anonlib.anonymizers.registry import create as anonymizer
from anonlib.assets.models import ATTRIBUTES, IDENTITY, PARTS
from anonlib.config import CAMOUFLAGE, COMPARED, CONDITIONS, MORE_CONDITIONS

BASE = ("depth", "normal", "segmentation", "openpose", "lineart")  # that CAMOUFLaGE-Base follows
# those that paint, and what each of them follows: control maps, and what CAMOUFLaGE has besides
DIFFUSION: dict[str, tuple[str, ...]] = {
    f"ia-{one}": () if one == "none" else tuple(one.split("+")) for one in CONDITIONS + MORE_CONDITIONS
}
DIFFUSION |= zip(CAMOUFLAGE, ((*BASE, IDENTITY), (ATTRIBUTES,)), strict=True)
NAMES = ("noop", *DIFFUSION, *COMPARED)

__all__ = ["BASE", "DIFFUSION", "NAMES", "OK", "STATUSES", "Anonymizer", "anonymizer", "image_seed", "maps_of"]


def maps_of(name: str) -> tuple[str, ...]:
    """Return the control maps that an anonymizer follows."""
    return tuple(one for one in DIFFUSION.get(name, ()) if one not in PARTS)
