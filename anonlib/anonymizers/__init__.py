"""The anonymizers by name. Diffusion stands beside blur and pixelation and obeys the same contract."""

from anonlib.anonymizers.contract import OK, STATUSES, Anonymizer, closed, image_seed
from anonlib.assets.models import ATTRIBUTES, IDENTITY, PARTS
from anonlib.config import BASELINES, CAMOUFLAGE, COMPARED, CONDITIONS, KSAME, MORE_CONDITIONS
from anonlib.config.errors import AnonlibError

BASE = ("depth", "normal", "segmentation", "openpose", "lineart")  # that CAMOUFLaGE-Base follows
# those that paint, and what each of them follows: control maps, and what CAMOUFLaGE has besides
DIFFUSION: dict[str, tuple[str, ...]] = {
    f"ia-{one}": () if one == "none" else tuple(one.split("+")) for one in CONDITIONS + MORE_CONDITIONS
}
DIFFUSION |= zip(CAMOUFLAGE, ((*BASE, IDENTITY), (ATTRIBUTES,)), strict=True)
NAMES = ("noop", *DIFFUSION, *COMPARED)

__all__ = ["BASE", "DIFFUSION", "NAMES", "OK", "STATUSES", "Anonymizer", "anonymizer", "image_seed", "maps_of"]


def anonymizer(name: str, **settings) -> Anonymizer:
    """Return the anonymizer of that name, wrapped to fail closed, with settings of its own (steps ...).

    "noop" is the control that changes nothing; it alone is not wrapped. Raises AnonlibError for an unknown name.
    """
    if name not in NAMES:
        raise AnonlibError(f"unknown anonymizer {name!r}: choose one of {', '.join(NAMES)}")
    if name == "noop":
        return lambda images, masks, seeds: (images.copy(), [OK] * len(images))
    if name in CAMOUFLAGE:
        from anonlib.anonymizers.camouflage import CamouflageBase, CamouflageLight

        return closed((CamouflageBase if IDENTITY in DIFFUSION[name] else CamouflageLight)(**settings))
    if name in DIFFUSION:
        from anonlib.anonymizers.instance_augmentation import InstanceAugmentation

        return closed(InstanceAugmentation(conditions=DIFFUSION[name], **settings))
    return closed(_compared(name, settings))


def _compared(name: str, settings: dict) -> Anonymizer:
    if name in KSAME:
        from anonlib.anonymizers.ksame import KSame

        return KSame(k=int(name.removeprefix("ksame-")), **settings)
    if name in BASELINES:
        from anonlib.anonymizers import simple

        return getattr(simple, name)
    if name == "falco":
        from anonlib.anonymizers.falco import Falco

        return Falco(**settings)
    if "checkout" in settings:
        from anonlib.anonymizers.external import OriginalDeepPrivacy2

        return OriginalDeepPrivacy2(**settings)
    from anonlib.anonymizers.deepprivacy2 import DeepPrivacy2

    return DeepPrivacy2(**settings)


def maps_of(name: str) -> tuple[str, ...]:
    """Return the control maps that an anonymizer follows."""
    return tuple(one for one in DIFFUSION.get(name, ()) if one not in PARTS)
