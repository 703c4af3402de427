"""The anonymizers of the package (each moves to the file of its system)."""

from functools import partial
from importlib import import_module

from anonlib import config
from anonlib.anonymizers.registry import (
    CAMOUFLAGE,
    COMPARED,
    IA,
    AnonymizerSpec,
    add,
)
from anonlib.assets import models
from anonlib.assets.models import ATTRIBUTES, IDENTITY
from anonlib.faces.attributes import ENCODER

CONDITIONS = (
    "none", "depth", "hed", "canny", "depth+hed", "normal", "lineart", "sketch", "openpose", "segmentation",
    "depth+hed+normal", "depth+sketch", "depth+sketch+lineart",
)  # fmt: skip
BASE = ("depth", "normal", "segmentation", "openpose", "lineart")  # that CAMOUFLaGE-Base follows


def _lazy(module: str, name: str, **options):
    return lambda **more: getattr(import_module(f"anonlib.anonymizers.{module}"), name)(**options, **more)


def generator_options(conditions: tuple[str, ...], settings: config.Profile) -> dict:
    """Return the options that all diffusion anonymizers take from a profile."""
    generator = settings.generator
    bundle = models.model_spec(generator)
    models.check(bundle, conditions, generator.few_steps is not None)  # before the first photo is anonymized
    options = {"steps": generator.steps, "batch": generator.batch, "size": generator.size, "bundle": bundle}
    return options | {"compiled": generator.compiled, "lcm_steps": generator.few_steps}


def _deepprivacy2_options(settings: config.Profile) -> dict:
    checkout = settings.compare.deepprivacy2
    return {"checkout": checkout} if checkout else {"weights": models.DEEPPRIVACY2_WEIGHTS}


def _falco_options(settings: config.Profile) -> dict:
    options = {name: getattr(settings.compare, name) for name in ("levels", "steps", "fit_levels", "fit_steps")}
    return options | {"weights": models.FALCO_WEIGHTS, "reader": models.OWN.camouflage.folder / ENCODER}


def _add(name: str, group: str, **fields) -> None:
    add(AnonymizerSpec(name=name, group=group, module=__name__, **fields))


for condition in CONDITIONS:
    controls = () if condition == "none" else tuple(condition.split("+"))
    factory = _lazy("instance_augmentation", "InstanceAugmentation", conditions=controls)
    _add(
        f"ia-{condition}",
        IA,
        factory=factory,
        controls=controls,
        uses_generator=True,
        options=partial(generator_options, controls),
    )
_add(
    "camouflage-base",
    CAMOUFLAGE,
    factory=_lazy("camouflage", "CamouflageBase"),
    controls=BASE,
    parts=(IDENTITY,),
    options=partial(generator_options, (*BASE, IDENTITY)),
    uses_generator=True,
    repaints_background=True,
)
_add(
    "camouflage-light",
    CAMOUFLAGE,
    factory=_lazy("camouflage", "CamouflageLight"),
    parts=(ATTRIBUTES,),
    options=partial(generator_options, (ATTRIBUTES,)),
    uses_generator=True,
    repaints_background=True,
)


def _deepprivacy2(**options):
    module, name = ("external", "OriginalDeepPrivacy2") if "checkout" in options else ("deepprivacy2", "DeepPrivacy2")
    return _lazy(module, name)(**options)


_add("deepprivacy2", COMPARED, factory=_deepprivacy2, options=_deepprivacy2_options)
_add("falco", COMPARED, factory=_lazy("falco", "Falco"), options=_falco_options, shard=32, repaints_background=True)
