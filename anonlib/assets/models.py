"""The models of a generator: a pipeline, its ControlNets and annotators, in local folders or on a model hub."""

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
SAFETY_CHECKER = "safety_checker"  # its folder in a pipeline, as diffusers names it
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
        """Return the reference that a text means.

        Args:
            text: "folder" or "owner/model@commit".

        Returns:
            A folder where one of that name exists.
        """
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
    """The models of a generator.

    Attributes:
        pipeline: A diffusers pipeline; folders `controlnet-<condition>` in it are its ControlNets.
        controls: Further ControlNets, by condition.
        annotators: The networks that draw control maps, by condition; others are drawn by the project's annotators.
        lora: A latent consistency LoRA (Luo et al., 2023), for a few steps without guidance.
        camouflage: CAMOUFLaGE's own weights (Piano et al., 2024): Base's identity function, Light's IP-Adapter and
            T2I-Adapter, and the attribute encoder where `reader` is None.
        reader: FaRL's and FACER's files.
        captioner: BLIP; None: captions are made from attributes.
        safety_checker: Stable Diffusion's safety checker; None: see `checker`.
    """

    pipeline: ModelRef
    controls: tuple[tuple[str, ModelRef], ...] = ()
    annotators: tuple[tuple[str, ModelRef], ...] = ()
    lora: ModelRef | None = None
    camouflage: ModelRef | None = None
    reader: ModelRef | None = None
    captioner: ModelRef | None = None
    safety_checker: ModelRef | None = None

    @property
    def checker(self) -> ModelRef | None:
        """Return the safety checker, else that in the pipeline's local folder; None: no picture is filtered."""
        own = ModelRef(str(Path(self.pipeline.name) / SAFETY_CHECKER))
        return self.safety_checker or (own if own.local and (own.local / "config.json").exists() else None)

    def control(self, condition: str) -> ModelRef:
        """Return the ControlNet of a condition; one in the pipeline's folder goes first.

        Args:
            condition: Its name, depth for example.

        Returns:
            A reference; what it names may be missing, see `check`.
        """
        if condition in PARTS and self.camouflage:
            return ModelRef(str(self.camouflage.folder / PARTS[condition]))
        own = ModelRef(str(controlnet_folder(Path(self.pipeline.name), condition)))
        return own if own.local else dict(self.controls).get(condition, own)

    def annotator(self, condition: str) -> ModelRef | None:
        """Return the network that draws the maps of a condition.

        Args:
            condition: Its name, depth for example.

        Returns:
            None where the project's own annotator draws them.
        """
        return dict(self.annotators).get(condition)

    def sources(self, conditions: tuple[str, ...]) -> list[ModelRef]:
        """Return the models that some conditions need.

        Args:
            conditions: Their names.

        Returns:
            References, the pipeline first.
        """
        # CAMOUFLaGE's own weights exist only after they were trained for this pipeline
        own = [name for name in conditions if name in PARTS and (self.camouflage or not self.control(name).local)]
        controls = [self.control(name) for name in conditions if name not in own]
        more = [self.checker, self.lora, self.camouflage if own else None]
        if IDENTITY in conditions:
            more.append(self.captioner or self.reader)
        if ATTRIBUTES in conditions:
            more.append(self.reader)
        return [self.pipeline, *controls, *self.networks(conditions).values(), *filter(None, more)]

    def networks(self, conditions: Iterable[str]) -> dict[str, ModelRef]:
        """Return the networks that draw the maps of some conditions.

        Args:
            conditions: Their names.

        Returns:
            References by condition, without those that the project's own annotators draw.
        """
        annotators = {name: self.annotator(name) for name in conditions}
        return {name: network for name, network in annotators.items() if network}

    def folders(self) -> set[Path]:
        """Return the local folders of its models."""
        parts = [self.pipeline, self.lora, self.camouflage, self.reader, self.captioner, self.safety_checker]
        parts += [source for _, source in (*self.controls, *self.annotators)]
        return {source.local for source in parts if source and source.local}

    def used(self, conditions: tuple[str, ...], use_lcm: bool) -> "ModelSpec":
        """Return the spec without the models that go unused: they are not part of a cache key.

        Args:
            conditions, use_lcm: The conditions that are followed, and whether the LoRA is used.

        Returns:
            A smaller spec.
        """
        unused = [] if use_lcm else ["lora"]
        unused += [] if PARTS.keys() & set(conditions) else ["camouflage", "reader", "captioner"]
        return replace(self, **dict.fromkeys(unused))

    def reading(self) -> "ModelSpec":
        """Return the spec of the attribute readers alone: they do not depend on the pipeline."""
        return ModelSpec(OWN.pipeline, camouflage=None if self.reader else self.camouflage, reader=self.reader)


OWN = ModelSpec(ModelRef(str(SMALL)), camouflage=ModelRef(str(SMALL.with_name("small-camouflage"))))


def model_spec(generator: config.Generator) -> ModelSpec:
    """Return the models that a profile's generator names.

    Args:
        generator: The profile's group.

    Raises:
        AnonlibError: A control or annotator is not written as condition=model.
    """

    def named(texts: tuple[str, ...]) -> tuple[tuple[str, ModelRef], ...]:
        pairs = [text.partition("=")[::2] for text in texts]
        if wrong := [text for text, pair in zip(texts, pairs, strict=True) if not all(pair)]:
            raise AnonlibError(f"{wrong[0]!r} is no condition=model: depth=owner/model@commit, say, or depth=folder")
        return tuple((condition, ModelRef.of(model)) for condition, model in pairs)

    names = ("lora", "camouflage", "reader", "captioner", "safety_checker")
    more = {name: getattr(generator, name) for name in names}
    more = {name: ModelRef.of(text) if text else None for name, text in more.items()}
    return ModelSpec(ModelRef.of(generator.bundle), named(generator.controls), named(generator.annotators), **more)


def fetch(bundle: ModelSpec, conditions: tuple[str, ...]) -> int:
    """Fetch the models that some conditions need and that are in no local folder.

    Args:
        conditions: The conditions that are followed.

    Returns:
        How many models of the hub and of releases they need.
    """
    distant = {source.name: source for source in bundle.sources(conditions) if not source.local}
    networks = [(network.name, condition) for condition, network in bundle.networks(conditions).items()]
    in_use = {name: [condition for owner, condition in networks if owner == name] for name in distant}
    hub.fetch({name: source.revision for name, source in distant.items() if not source.released}, in_use)
    releases.fetch(name for name, source in distant.items() if source.released)
    return len(distant)


def controlnet_folder(bundle: Path, condition: str) -> Path:
    """Return the folder of a ControlNet in a local pipeline.

    Args:
        bundle, condition: The pipeline's folder, and the ControlNet's condition.

    Returns:
        The folder, whether it exists or not.
    """
    return bundle / f"controlnet-{condition}"


def check(bundle: ModelSpec, conditions: tuple[str, ...], use_lcm: bool = False) -> None:
    """Check that the models that some conditions need are there.

    Args:
        conditions, use_lcm: The conditions that are followed, and whether the LoRA is needed.

    Raises:
        AnonlibError: One is missing; the message says what to do.
    """
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
    if bundle.checker and not (bundle.checker.folder / "config.json").exists():
        raise AnonlibError(
            f"{bundle.checker.folder} is no safety checker, it has no config.json: name another, "
            "or none with generator.safety_checker=none"
        )
    for condition in conditions:
        control = bundle.control(condition)
        if not control.local and control.revision is None:
            raise AnonlibError(f"the bundle {pipeline.name} has no ControlNet for {condition}: run `make models`")
        if not (control.folder / "config.json").exists():
            raise AnonlibError(f"{control.folder} is no ControlNet: it has no config.json")
        if network := bundle.annotator(condition):
            _check_annotator(network, condition)


def _check_annotator(network: ModelRef, condition: str) -> None:
    folder, files = network.folder, [] if network.local else hub.files_of(network.name, [condition])
    advice = "`make fetch PROFILE=full` downloads the annotators, with METHOD= those of one anonymizer"
    if not any(folder.iterdir()):
        raise AnonlibError(f"{folder} is empty: {advice}")
    if missing := [file for file in files if not (folder / file).exists()]:
        raise AnonlibError(f"{network.name} lacks {missing[0]}, which draws {condition}: {advice}")
