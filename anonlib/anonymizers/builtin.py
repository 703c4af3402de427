"""The anonymizers of the package (each moves to the file of its system)."""

from functools import partial
from importlib import import_module

from anonlib import config
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.registry import (
    BASELINE,
    CAMOUFLAGE,
    COMPARED,
    CONTROL,
    IA,
    AnonymizerSpec,
    add,
)
from anonlib.assets.models import ATTRIBUTES, IDENTITY

BASE = ("depth", "normal", "segmentation", "openpose", "lineart")  # that CAMOUFLaGE-Base follows


def _lazy(module: str, name: str, **options):
    return lambda **more: getattr(import_module(f"anonlib.anonymizers.{module}"), name)(**options, **more)


def _function(name: str):
    return lambda: getattr(import_module("anonlib.anonymizers.simple"), name)


def _options(name: str, settings: config.Profile) -> dict:
    from anonlib.anonymizers.dataset import options

    return options(name, settings)


def _add(name: str, group: str, **fields) -> None:
    add(AnonymizerSpec(name=name, group=group, options=partial(_options, name), module=__name__, **fields))


_add(
    "noop",
    CONTROL,
    factory=lambda: lambda images, masks, seeds: (images.copy(), [OK] * len(images)),
    cheap=True,
    description="The control that changes nothing.",
)
for condition in config.CONDITIONS + config.MORE_CONDITIONS:
    controls = () if condition == "none" else tuple(condition.split("+"))
    factory = _lazy("instance_augmentation", "InstanceAugmentation", conditions=controls)
    _add(f"ia-{condition}", IA, factory=factory, controls=controls, uses_generator=True)
_add(
    "camouflage-base",
    CAMOUFLAGE,
    factory=_lazy("camouflage", "CamouflageBase"),
    controls=BASE,
    parts=(IDENTITY,),
    uses_generator=True,
    repaints_background=True,
)
_add(
    "camouflage-light",
    CAMOUFLAGE,
    factory=_lazy("camouflage", "CamouflageLight"),
    parts=(ATTRIBUTES,),
    uses_generator=True,
    repaints_background=True,
)


def _deepprivacy2(**options):
    module, name = ("external", "OriginalDeepPrivacy2") if "checkout" in options else ("deepprivacy2", "DeepPrivacy2")
    return _lazy(module, name)(**options)


_add("deepprivacy2", COMPARED, factory=_deepprivacy2)
_add("falco", COMPARED, factory=_lazy("falco", "Falco"), shard=32, repaints_background=True)
for k in (2, 5, 10):
    _add(f"ksame-{k}", COMPARED, factory=_lazy("ksame", "KSame", k=k), cheap=True, k=k)
for name in config.BASELINES:
    _add(name, BASELINE, factory=_function(name), cheap=True)
