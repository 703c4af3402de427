"""Models of others on a model hub: pinned by commit, fetched once with sizes and licences told before, read offline."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from anonlib.assets import require_licence
from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.files import read_json, sha256_of, update_json, write_text
from anonlib.config.paths import cache_root
from anonlib.engine import progress

FORMS = (".fp16.safetensors", ".safetensors", ".fp16.bin", ".bin")  # of a network's weights, the best first
WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|pytorch_lora_weights|model)(-\d+-of-\d+)?(\.fp16)?\.(safetensors|bin)"
)
UNUSED = {"safety_checker", "feature_extractor", "image_encoder"}  # folders of a pipeline
FIRST = "first"  # in the place of a commit, where none could be looked up when this was written
SPARE = 2**30  # bytes of the disk that a download must leave free


@dataclass(frozen=True)
class HubModel:
    """On which terms a repository is offered, and what it is here for; which commit is taken, the profile says.

    term: what the user has to accept once, see `assets.require_licence`. files: these alone are taken; none: see
    `wanted`.
    """

    licence: str
    use: str
    term: str | None = None
    files: tuple[str, ...] = ()


_OPENRAIL = "CreativeML OpenRAIL-M, which forbids some uses"
_ANNOTATOR_FILES = (
    "ControlNetHED.pth", "scannet.pt", "sk_model.pth", "sk_model2.pth", "table5_pidinet.pth",
    "body_pose_model.pth", "hand_pose_model.pth", "facenet.pth",
)  # fmt: skip
HUB_MODELS: dict[str, HubModel] = (
    {  # of the models that the papers use
        name: HubModel(_OPENRAIL, f"Stable Diffusion 1.5, {use}", "openrail")
        for name, use in {
            "stable-diffusion-v1-5/stable-diffusion-inpainting": "inpainting",
            "lllyasviel/control_v11f1p_sd15_depth": "ControlNet for depth",
            "lllyasviel/control_v11p_sd15_softedge": "ControlNet for HED soft edges",
            "lllyasviel/control_v11p_sd15_canny": "ControlNet for Canny edges",
            "lllyasviel/control_v11p_sd15_normalbae": "ControlNet for surface normals",
            "lllyasviel/control_v11p_sd15_lineart": "ControlNet for line art",
            "lllyasviel/control_v11p_sd15_openpose": "ControlNet for poses",
            "lllyasviel/control_v11p_sd15_seg": "ControlNet for segmentation",
            "latent-consistency/lcm-lora-sdv1-5": "LoRA for few steps",
        }.items()
    }
    | {
        "LiheYoung/depth-anything-large-hf": HubModel("Apache-2.0", "depth annotator"),
        "lllyasviel/Annotators": HubModel(
            "none stated", "annotators of edges, lines, normals, poses", files=_ANNOTATOR_FILES
        ),
        "openmmlab/upernet-convnext-small": HubModel("MIT", "segmentation annotator"),
        "Salesforce/blip-image-captioning-base": HubModel("BSD-3-Clause", "captioner of CAMOUFLaGE-Base"),
        "SG161222/RealVisXL_V3.0": HubModel("OpenRAIL++, which forbids some uses", "Stable Diffusion XL", "openrail"),
        "latent-consistency/lcm-lora-sdxl": HubModel(
            "OpenRAIL++, which forbids some uses", "its LoRA for few steps", "openrail"
        ),
    }
    | {
        f"TencentARC/t2i-adapter-{name}-sdxl-1.0": HubModel(
            "Apache-2.0", f"T2I-Adapter of Stable Diffusion XL for {use}"
        )
        for name, use in {"depth-midas": "depth", "sketch": "sketches", "lineart": "line art"}.items()
    }
)


@dataclass(frozen=True)
class File:
    """One file of a repository: its size in bytes, and its SHA-256 where the hub tells it (of weights it does)."""

    size: int
    sha256: str | None


def wanted(names: Iterable[str]) -> list[str]:
    """Return the files of a repository that are taken, sorted: texts, and of each network one form of its weights.

    Of a pipeline the folders that are not used and the single-file weights at its root are left out.
    """
    names = sorted(names)
    pipeline = "model_index.json" in names
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    chosen = []
    for folder, inside in folders.items():
        if folder in UNUSED or "/" in folder or (folder != "." and not pipeline):
            continue
        chosen += [name for name in inside if name.endswith((".json", ".txt"))]
        if folder != "." or not pipeline:
            chosen += _weights(inside)
    return sorted(chosen)


def _weights(names: list[str]) -> list[str]:
    """Return the files of the best form of weights among these; none where there are no weights."""
    for form in FORMS:
        told = [WEIGHTS.fullmatch(PurePosixPath(name).name) for name in names]
        found = [name for name, one in zip(names, told, strict=True) if one and f"{one[3] or ''}.{one[4]}" == form]
        if found:
            return found
    return []


def check_name(repository: str, revision: str | None) -> None:
    """Raise AnonlibError unless these are a hub name and a commit: a branch moves, and what it gives with it."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise AnonlibError(f"{repository!r} is neither a folder of this machine nor a hub name owner/model")
    if revision != FIRST and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise AnonlibError(f"{repository} needs a revision, the 40 hex digits of a commit, not {revision!r}")


def pinned(repository: str, revision: str | None) -> str | None:
    """Return the commit that a revision means: FIRST is the newest one at the first fetch, and that one ever after."""
    return read_json(_pins()).get(repository, FIRST) if revision == FIRST else revision


def _pins() -> Path:
    return cache_root() / "hub" / "pins.json"


def folder(repository: str, revision: str | None) -> Path:
    """Return where a fetched repository lies.

    Raises AnonlibError for a bad name or revision, when it has not been fetched, and when a file has another size.
    """
    check_name(repository, revision)
    record = _record(repository, revision := pinned(repository, revision))
    if not record.exists():
        raise AnonlibError(
            f"{repository} at {revision[:8]} is not here yet: `make fetch PROFILE=full` downloads it, with METHOD= "
            "what an anonymizer needs that the profile does not run"
        )
    told = json.loads(record.read_text())
    base = Path(told["folder"])
    for name, one in told["files"].items():
        if not (base / name).exists() or (base / name).stat().st_size != one["size"]:
            raise AnonlibError(f"{base / name} is damaged or gone: `make fetch PROFILE=full` downloads it again")
    return base


def fetch(repositories: Mapping[str, str]) -> None:
    """Download repositories, name -> commit, what is there already excepted; sizes and licences are said first.

    Every file is checked by its hash and the hashes are recorded. A stopped download goes on where it was. Raises
    AnonlibError for a licence that was not accepted, too little disk, no network, or a file whose hash differs.
    """
    for repository, revision in repositories.items():
        check_name(repository, revision)
        offer = HUB_MODELS.get(repository)
        if offer and offer.term:
            require_licence(offer.term, f"{repository} is under {offer.licence}")
    lacking = {name: _commit(name, one) for name, one in repositories.items() if not _is_here(name, one)}
    plans = {name: _listing(name, revision) for name, revision in lacking.items()}
    for name, files in plans.items():
        offer = HUB_MODELS.get(name)
        told = f"{offer.use}; licence: {offer.licence}" if offer else "see its page for what it is and its licence"
        progress.say(f"to fetch: {name}, {_gigabytes(files.values())}; {told}")
    _check_disk([one for files in plans.values() for one in files.values()])
    for name, files in plans.items():
        _download(name, lacking[name], files)
        if repositories[name] == FIRST:
            update_json(_pins(), lambda pins, name=name: pins | {name: lacking[name]})
            progress.say(f"pinned from now on: {name}@{lacking[name]}")


def _commit(repository: str, revision: str) -> str:
    """Return the commit to download: for FIRST the newest one, unless it was pinned before."""
    revision = pinned(repository, revision)
    if revision != FIRST:
        return revision
    from huggingface_hub import HfApi

    with _clear(repository, revision):
        return HfApi().model_info(repository).sha


def _is_here(repository: str, revision: str) -> bool:
    try:
        folder(repository, revision)
    except AnonlibError:
        return False
    return True


def _gigabytes(files: Iterable[File]) -> str:
    return f"{sum(one.size for one in files) / 1e9:.2f} GB"


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _check_disk(files: list[File]) -> None:
    place = _hub_cache()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if files and sum(one.size for one in files) + SPARE > free:
        raise AnonlibError(
            f"{_gigabytes(files)} to download and {free / 1e9:.2f} GB free at {_hub_cache()}: make room, or set HF_HOME"
        )


def _listing(repository: str, revision: str) -> dict[str, File]:
    """Return the wanted files of a repository by name, as the hub tells them."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with _clear(repository, revision):
        tree = HfApi().list_repo_tree(repository, recursive=True, revision=revision)
        files = {one.path: one for one in tree if isinstance(one, RepoFile)}
    alone = HUB_MODELS[repository].files if repository in HUB_MODELS else ()
    chosen = list(alone) or wanted(files)
    if not (alone or _weights(chosen)) or not files.keys() >= set(alone):
        raise AnonlibError(f"{repository} at {revision[:8]} does not hold the weights that are wanted: another commit?")
    return {name: File(files[name].size, files[name].lfs.sha256 if files[name].lfs else None) for name in chosen}


def _download(repository: str, revision: str, files: dict[str, File]) -> None:
    from huggingface_hub import snapshot_download

    for _ in range(2):  # a damaged file may have lain there before
        with _clear(repository, revision):
            base = Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
        found = {name: File((base / name).stat().st_size, sha256_of(base / name)) for name in files}
        damaged = [
            name for name, one in files.items() if found[name] != File(one.size, one.sha256 or found[name].sha256)
        ]
        for name in damaged:
            (base / name).resolve().unlink()
            (base / name).unlink()
        if not damaged:
            break
    else:
        raise AnonlibError(f"{repository}: {damaged[0]} arrived damaged and was deleted: run the same command again")
    told = {"folder": str(base), "files": {name: asdict(one) for name, one in found.items()}}
    write_text(_record(repository, revision), json.dumps(told, indent=1))


def _record(repository: str, revision: str) -> Path:
    return cache_root() / "hub" / f"{repository.replace('/', '--')}@{revision}.json"


@contextlib.contextmanager
def _clear(repository: str, revision: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise AnonlibError(f"HF_HUB_OFFLINE is set, so {repository} cannot be fetched: unset it this once") from None
    except errors.GatedRepoError:
        raise AnonlibError(f"{repository} wants its terms accepted on its page: do so, then `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise AnonlibError(f"{repository} has no commit {revision}: correct its revision") from None
    except errors.RepositoryNotFoundError:
        raise AnonlibError(
            f"the hub has no {repository}: correct the name, or `hf auth login` if it is private"
        ) from None
    except Exception as error:  # the hub's answers, the network, the disk
        raise AnonlibError(
            f"{repository} could not be fetched ({first_line(error)}): run the same command again"
        ) from error
