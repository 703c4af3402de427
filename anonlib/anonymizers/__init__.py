"""The anonymizers by name. Diffusion stands beside blur and pixelation and obeys the same contract."""

from anonlib.anonymizers.contract import OK, STATUSES, Anonymizer, closed, image_seed
from anonlib.errors import AnonlibError

NAMES = ("noop", "ia-none", "ia-depth", "ia-hed", "ia-canny", "ia-depth+hed", "blur", "pixelate", "mask")

__all__ = ["NAMES", "OK", "STATUSES", "Anonymizer", "anonymizer", "image_seed"]


def anonymizer(name: str, **settings) -> Anonymizer:
    """Return the anonymizer of that name, wrapped to fail closed; settings go to Instance Augmentation (steps ...).

    "noop" is the control that changes nothing; it alone is not wrapped. Raises AnonlibError for an unknown name.
    """
    if name not in NAMES:
        raise AnonlibError(f"unknown anonymizer {name!r}: choose one of {', '.join(NAMES)}")
    if name == "noop":
        return lambda images, masks, seeds: (images.copy(), [OK] * len(images))
    if name.startswith("ia-"):
        from anonlib.anonymizers.instance_augmentation import VARIANTS, InstanceAugmentation

        return closed(InstanceAugmentation(conditions=VARIANTS[name], **settings))
    from anonlib.anonymizers import simple

    return closed(getattr(simple, name))
