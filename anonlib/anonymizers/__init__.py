"""The anonymizers by name. Diffusion stands beside blur and pixelation and obeys the same contract."""

from anonlib.anonymizers.contract import OK, STATUSES, Anonymizer, closed, image_seed
from anonlib.config import CONDITIONS, MORE_CONDITIONS
from anonlib.errors import AnonlibError

VARIANTS: dict[str, tuple[str, ...]] = {  # of Instance Augmentation, and the control maps that each of them follows
    f"ia-{one}": () if one == "none" else tuple(one.split("+")) for one in CONDITIONS + MORE_CONDITIONS
}
NAMES = ("noop", *VARIANTS, "blur", "pixelate", "mask")

__all__ = ["NAMES", "OK", "STATUSES", "VARIANTS", "Anonymizer", "anonymizer", "image_seed"]


def anonymizer(name: str, **settings) -> Anonymizer:
    """Return the anonymizer of that name, wrapped to fail closed; settings go to Instance Augmentation (steps ...).

    "noop" is the control that changes nothing; it alone is not wrapped. Raises AnonlibError for an unknown name.
    """
    if name not in NAMES:
        raise AnonlibError(f"unknown anonymizer {name!r}: choose one of {', '.join(NAMES)}")
    if name == "noop":
        return lambda images, masks, seeds: (images.copy(), [OK] * len(images))
    if name in VARIANTS:
        from anonlib.anonymizers.instance_augmentation import InstanceAugmentation

        return closed(InstanceAugmentation(conditions=VARIANTS[name], **settings))
    from anonlib.anonymizers import simple

    return closed(getattr(simple, name))
