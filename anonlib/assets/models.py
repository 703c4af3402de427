"""Which models paint: a pipeline and its ControlNets, in folders of this machine or on a model hub."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from anonlib import config
from anonlib.assets import hub, releases
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import project_root

LORA = "pytorch_lora_weights.safetensors"  # as diffusers names it
# what CAMOUFLaGE's identity function (a ControlNet) and its T2I-Adapter follow, and where they lie in its folder
IDENTITY, ATTRIBUTES = "identity", "attributes"
PARTS = {IDENTITY: "identity", ATTRIBUTES: "adapter"}
IP_ADAPTER = "ip_adapter.safetensors"
SMALL = Path(__file__).parents[1] / "diffusion" / "small"  # the bundle that the project trains and ships
_SHIPPED = Path(__file__).parents[1] / "networks" / "weights"
DEEPPRIVACY2_WEIGHTS, FALCO_WEIGHTS = (_SHIPPED / f"{name}.safetensors" for name in ("deepprivacy2", "falco"))


@dataclass(frozen=True)
class ModelRef:
    """Where a model comes from: a folder (relative to the project), a hub name with its commit, or a release."""

    name: str
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> "ModelRef":
        """Return what "folder" or "owner/model@commit" means."""
        name, _, revision = text.rpartition("@")
        return cls(name, revision) if name and not (project_root() / text).exists() else cls(text)

    @property
    def local(self) -> Path | None:
        """Return the folder on this machine that the name means; None where it is a hub name."""
        here = project_root() / self.name
        return here if here.exists() else None

    @property
    def released(self) -> bool:
        """Return whether these are files of a release, see `releases`."""
        return self.name in releases.RELEASES and not self.local

    @property
    def folder(self) -> Path:
        """Return where the model lies; AnonlibError where it is neither here nor fetched."""
        if self.released:
            return releases.folder(self.name)
        return self.local or hub.folder(self.name, self.revision)

    @property
    def label(self) -> Path | str:
        """Return what stands for the model in a cache key: its folder, or name and commit."""
        pinned = releases.pinned(self.name) if self.released else hub.pinned(self.name, self.revision)
        return self.local or f"{self.name}@{pinned}"


@dataclass(frozen=True)
class ModelSpec:
    """A pipeline, the ControlNets that are not in folders `controlnet-<condition>` of it, and who makes their maps.

    controls, annotators: by condition; a condition without an annotator has the project's own, see `conditions`.
    lora: a latent consistency LoRA (Luo et al., 2023) with which the pipeline can paint in a few steps, unguided.
    camouflage: a folder with what CAMOUFLaGE (Piano et al., 2024) has of its own: Base's identity function, Light's
    IP-Adapter and T2I-Adapter, and what reads faces where no reader, FaRL's and FACER's files, is named. captioner:
    BLIP; None: captions are made of attributes.
    """

    pipeline: ModelRef
    controls: tuple[tuple[str, ModelRef], ...] = ()
    annotators: tuple[tuple[str, ModelRef], ...] = ()
    lora: ModelRef | None = None
    camouflage: ModelRef | None = None
    reader: ModelRef | None = None
    captioner: ModelRef | None = None

    def control(self, condition: str) -> ModelRef:
        """Return where the control of a condition comes from: the pipeline's own folder goes first."""
        if condition in PARTS and self.camouflage:
            return ModelRef(str(self.camouflage.folder / PARTS[condition]))
        own = ModelRef(str(controlnet_folder(Path(self.pipeline.name), condition)))
        return own if own.local else dict(self.controls).get(condition, own)

    def annotator(self, condition: str) -> ModelRef | None:
        """Return the network that makes the maps of a condition; None: the project's own annotator does."""
        return dict(self.annotators).get(condition)

    def sources(self, conditions: tuple[str, ...]) -> list[ModelRef]:
        """Return what has to be there to follow these conditions."""
        # what CAMOUFLaGE has of its own: until it was trained for this pipeline there is nothing to be had
        own = [one for one in conditions if one in PARTS and (self.camouflage or not self.control(one).local)]
        controls = [self.control(one) for one in conditions if one not in own]
        more = [self.lora, self.camouflage if own else None]
        if IDENTITY in conditions:
            more.append(self.captioner or self.reader)
        if ATTRIBUTES in conditions:
            more.append(self.reader)
        return [self.pipeline, *controls, *self.networks(conditions).values(), *(one for one in more if one)]

    def networks(self, conditions: Iterable[str]) -> dict[str, ModelRef]:
        """Return the networks that make the maps of these conditions, where not the project's own annotators do."""
        return {name: one for name in conditions if (one := self.annotator(name))}

    def folders(self) -> set[Path]:
        """Return the folders of this machine that its models lie in."""
        parts = [self.pipeline, self.lora, self.camouflage, self.reader, self.captioner]
        parts += [source for _, source in (*self.controls, *self.annotators)]
        return {source.local for source in parts if source and source.local}

    def used(self, conditions: tuple[str, ...], use_lcm: bool) -> "ModelSpec":
        """Return the bundle with no more than these conditions, and few steps, use: the rest makes nothing stale."""
        unused = [] if use_lcm else ["lora"]
        unused += [] if PARTS.keys() & set(conditions) else ["camouflage", "reader", "captioner"]
        return replace(self, **dict.fromkeys(unused))

    def reading(self) -> "ModelSpec":
        """Return the bundle that reads the same, with nothing that paints: another pipeline makes nothing stale."""
        return ModelSpec(OWN.pipeline, camouflage=None if self.reader else self.camouflage, reader=self.reader)


OWN = ModelSpec(ModelRef(str(SMALL)), camouflage=ModelRef(str(SMALL.with_name("small-camouflage"))))


def model_spec(generator: config.Generator) -> ModelSpec:
    """Return the bundle that a profile's generator names; AnonlibError for a control or annotator without a name."""

    def named(texts: tuple[str, ...]) -> tuple[tuple[str, ModelRef], ...]:
        pairs = [text.partition("=")[::2] for text in texts]
        if wrong := [text for text, pair in zip(texts, pairs, strict=True) if not all(pair)]:
            raise AnonlibError(f"{wrong[0]!r} is no condition=model: depth=owner/model@commit, say, or depth=folder")
        return tuple((condition, ModelRef.of(model)) for condition, model in pairs)

    more = {name: getattr(generator, name) for name in ("lora", "camouflage", "reader", "captioner")}
    more = {name: ModelRef.of(text) if text else None for name, text in more.items()}
    return ModelSpec(ModelRef.of(generator.bundle), named(generator.controls), named(generator.annotators), **more)


def fetch(bundle: ModelSpec, conditions: tuple[str, ...]) -> int:
    """Fetch what these conditions need and is not in a folder of this machine; return how many models."""
    distant = {source.name: source for source in bundle.sources(conditions) if not source.local}
    hub.fetch({name: source.revision for name, source in distant.items() if not source.released})
    releases.fetch(name for name, source in distant.items() if source.released)
    return len(distant)


def controlnet_folder(bundle: Path, condition: str) -> Path:
    """Return the folder of one ControlNet of a local bundle."""
    return bundle / f"controlnet-{condition}"


def check(bundle: ModelSpec, conditions: tuple[str, ...], use_lcm: bool = False) -> None:
    """Raise AnonlibError, saying what to do, unless the bundle has what these conditions, and few steps, need."""
    pipeline = bundle.pipeline
    if not pipeline.local and (pipeline.name.startswith(("/", ".")) or pipeline.revision is None):
        raise AnonlibError(
            f"no model bundle at {project_root() / pipeline.name}: `make models` trains the small one; "
            "else give a diffusers folder, or a hub name with its revision"
        )
    if not (pipeline.folder / "model_index.json").exists():
        raise AnonlibError(
            f"{pipeline.folder} is no diffusers pipeline, it has no model_index.json: give another folder, "
            "or run `make models`, which trains the small one"
        )
    if use_lcm and not bundle.lora:
        raise AnonlibError(f"{pipeline.name} has no LoRA to paint in a few steps with: name one, generator.lora")
    if use_lcm and not (bundle.lora.folder / LORA).exists():
        raise AnonlibError(f"{bundle.lora.folder} is no LoRA: it has no {LORA}")
    if ATTRIBUTES in conditions and not bundle.camouflage:
        raise AnonlibError(f"{pipeline.name} has nothing for CAMOUFLaGE: name its folder, generator.camouflage")
    if ATTRIBUTES in conditions and not (bundle.camouflage.folder / IP_ADAPTER).exists():
        raise AnonlibError(f"{bundle.camouflage.folder} is not CAMOUFLaGE-Light's: it has no {IP_ADAPTER}")
    for condition in conditions:
        control = bundle.control(condition)
        if not control.local and control.revision is None:
            raise AnonlibError(f"the bundle {pipeline.name} has no ControlNet for {condition}: run `make models`")
        if not (control.folder / "config.json").exists():
            raise AnonlibError(f"{control.folder} is no ControlNet: it has no config.json")
        if (network := bundle.annotator(condition)) and not any(network.folder.iterdir()):
            raise AnonlibError(f"{network.folder} is empty: `make fetch PROFILE=full` downloads the annotators")
