"""Models of others on a model hub: pinned by commit, fetched once, sizes and licences first, then read offline."""

import contextlib
import hashlib
import json
import math
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from anonlib.assets import require_licence
from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.files import read_json, sha256_of, update_json, write_text
from anonlib.config.paths import cache_root
from anonlib.engine import progress

if TYPE_CHECKING:
    from huggingface_hub import DryRunFileInfo

FORMS = (".fp16.safetensors", ".safetensors", ".fp16.bin", ".bin")  # of a network's weights, the best first
WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|pytorch_lora_weights|model)(?:-\d+-of-\d+)?(\.fp16)?(?:-\d+-of-\d+)?"
    r"\.(safetensors|bin)"
)
UNUSED = {"safety_checker", "feature_extractor", "image_encoder"}  # folders of a pipeline
FIRST = "first"  # in the place of a commit that could not be looked up: that of the first fetch
SPARE = 2**30  # bytes of the disk that a download must leave free


@dataclass(frozen=True)
class HubModel:
    """The terms of a repository and what it is for, see hub.toml; the profile names the commit.

    Attributes:
        licence, use: What the user is told.
        term: What the user accepts once, see `assets.require_licence`.
        files: Files by condition, if the repository holds many networks; none: see `select_files`.
    """

    licence: str
    use: str
    term: str | None = None
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)


HUB_MODELS: dict[str, HubModel] = {
    name: HubModel(**fields)
    for name, fields in tomllib.loads(Path(__file__).with_name("hub.toml").read_text("utf-8")).items()
}


def select_files(names: Iterable[str]) -> list[str]:
    """Return the sorted files of a repository that are taken: texts, and of each network the best form of its weights.

    Of a pipeline the unused folders and the single-file weights at its root are left out.
    """
    names = sorted(names)
    pipeline = "model_index.json" in names
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    selected = []
    for folder, inside in folders.items():
        if folder in UNUSED or "/" in folder or (folder != "." and not pipeline):
            continue
        selected += [name for name in inside if name.endswith((".json", ".txt"))]
        if folder != "." or not pipeline:
            selected += _weights(inside)
    return sorted(selected)


def _weights(names: list[str]) -> list[str]:
    """Return the files of the best form of weights among these; none where there are no weights."""
    forms = {name: f"{match[1] or ''}.{match[2]}" for name in names if (match := WEIGHTS.fullmatch(Path(name).name))}
    best = next((form for form in FORMS if form in forms.values()), None)
    return [name for name, form in forms.items() if form == best]


def count_parameters(folder: Path) -> float:
    """Count the parameters of the network in a folder by its files, whatever form its weights have.

    Args:
        folder: Local folder, as select_files takes it or with weights in several forms.

    Returns:
        Their number; 0 without weights.
    """
    return sum(_parameters(Path(file)) for file in _weights([str(file) for file in sorted(folder.iterdir())]))


def _parameters(file: Path) -> float:
    """Count by a file's header where it has one; else estimate by its size and name."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length if length < size else 0))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, AttributeError, KeyError):  # no safetensors, or damaged: reading tells
        return size / (2 if ".fp16" in file.name else 4)


def check_name(repository: str, revision: str | None) -> None:
    """Raise AnonlibError unless these are "owner/model" and a commit (40 hex digits) or FIRST: a branch moves."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise AnonlibError(f"{repository!r} is neither a folder of this machine nor a hub name owner/model")
    if revision != FIRST and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise AnonlibError(f"{repository} needs a revision, the 40 hex digits of a commit, not {revision!r}")


def pinned(repository: str, revision: str | None) -> str | None:
    """Return the commit of a revision: for FIRST that of the first fetch, or FIRST itself before it."""
    return read_json(_pins()).get(repository, FIRST) if revision == FIRST else revision


def _pins() -> Path:
    return cache_root() / "hub" / "pins.json"


def _record(repository: str, commit: str) -> Path:
    return cache_root() / "hub" / f"{repository.replace('/', '--')}@{commit}.json"


def folder(repository: str, revision: str | None) -> Path:
    """Return the folder of a fetched repository.

    Args:
        repository, revision: A name such as "owner/model", and a commit or FIRST.

    Raises:
        AnonlibError: The name or revision is wrong, it was not fetched, or a file has another size.
    """
    check_name(repository, revision)
    record = _record(repository, commit := pinned(repository, revision))
    if not record.exists():
        raise AnonlibError(
            f"{repository} at {commit[:8]} is not here yet: `make fetch PROFILE=full` downloads it, with METHOD= "
            "what an anonymizer needs that the profile does not run"
        )
    stored = json.loads(record.read_text())
    base = Path(stored["folder"])
    for name, size in stored["sizes"].items():
        if not (base / name).exists() or (base / name).stat().st_size != size:
            raise AnonlibError(f"{base / name} is damaged or gone: `make fetch PROFILE=full` downloads it again")
    return base


def files_of(repository: str, conditions: Iterable[str]) -> list[str]:
    """Return the files that some conditions need of a repository of many networks; [] for any other repository."""
    files = HUB_MODELS[repository].files if repository in HUB_MODELS else {}
    return sorted({file for condition in conditions for file in files.get(condition, ())})


def fetch(repositories: Mapping[str, str], conditions: Mapping[str, Iterable[str]] | None = None) -> None:
    """Download what is missing of repositories; print sizes and licences first.

    A stopped download goes on where it was. Weights are checked by their hashes.

    Args:
        repositories: The commit, or FIRST, of each by name.
        conditions: The conditions in use by name of a repository that holds many networks, see `HubModel.files`.

    Raises:
        AnonlibError: A licence was not accepted, the disk is too small, there is no network, or a file is damaged.
    """
    for name, revision in repositories.items():
        check_name(name, revision)
        if (model := HUB_MODELS.get(name)) and model.term:
            require_licence(model.term, f"{name} is under {model.licence}")
    wanted = {name: files_of(name, (conditions or {}).get(name, ())) for name in repositories}
    missing = {name: at for name, at in repositories.items() if not _is_here(name, at, wanted[name])}
    plans = {name: _plan(name, revision, wanted[name]) for name, revision in missing.items()}
    for name, files in plans.items():
        model = HUB_MODELS.get(name)
        terms = f"{model.use}; licence: {model.licence}" if model else "see its page for what it is and its licence"
        progress.say(f"to fetch: {name}, {_gigabytes(files)}; {terms}")
    _check_disk([file for files in plans.values() for file in files if file.will_download])
    for name, files in plans.items():
        _download(name, files)
        if repositories[name] == FIRST:
            commit = files[0].commit_hash
            update_json(_pins(), lambda pins, pin={name: commit}: pins | pin)
            progress.say(f"pinned from now on: {name}@{commit}")


def _is_here(repository: str, revision: str, wanted: list[str]) -> bool:
    try:
        base = folder(repository, revision)
    except AnonlibError:
        return False
    return all((base / file).exists() for file in wanted)


def _plan(repository: str, revision: str, wanted: list[str]) -> list["DryRunFileInfo"]:
    """Return the files to take of a repository, `wanted` or its best form.

    FIRST stands for its newest commit unless it was pinned before.
    """
    from huggingface_hub import snapshot_download

    commit = pinned(repository, revision)
    if wanted:  # with those of other conditions, which may be damaged
        wanted = sorted({*wanted, *read_json(_record(repository, commit)).get("sizes", {})})
    with _one_line_errors(repository, commit):
        options = {"revision": None if commit == FIRST else commit, "allow_patterns": wanted or None}
        files = {file.filename: file for file in snapshot_download(repository, dry_run=True, **options)}
    selected = wanted or select_files(files)
    if not (wanted or _weights(selected)) or not files.keys() >= set(wanted):
        raise AnonlibError(f"{repository} at {commit[:8]} does not hold the weights that are wanted: another commit?")
    return [files[name] for name in selected]


def _download(repository: str, files: list["DryRunFileInfo"]) -> None:
    from huggingface_hub import snapshot_download

    names, commit = [file.filename for file in files], files[0].commit_hash
    for _ in range(2):  # a damaged file may have lain there before
        with _one_line_errors(repository, commit):
            base = Path(snapshot_download(repository, revision=commit, allow_patterns=names))
        damaged = [base / name for name in names if not _is_whole(base / name)]
        for path in damaged:
            path.resolve().unlink()
            path.unlink()
        if not damaged:
            break
    else:
        raise AnonlibError(f"{repository}: {damaged[0].name} arrived damaged and was deleted: run the command again")
    sizes = {name: (base / name).stat().st_size for name in names}
    write_text(_record(repository, commit), json.dumps({"folder": str(base), "sizes": sizes}, indent=1))


def _is_whole(path: Path) -> bool:
    """Return whether a file has the hash by which the hub's cache names it: SHA-256 of weights, git's of texts."""
    stored = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", stored.name):
        return sha256_of(stored) == stored.name
    if re.fullmatch(r"[0-9a-f]{40}", stored.name):
        content = stored.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == stored.name
    return True


def _gigabytes(files: Iterable["DryRunFileInfo"]) -> str:
    return f"{sum(file.file_size for file in files) / 1e9:.2f} GB"


def _check_disk(files: list["DryRunFileInfo"]) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if files and sum(file.file_size for file in files) + SPARE > free:
        raise AnonlibError(
            f"{_gigabytes(files)} to download and {free / 1e9:.2f} GB free at {HF_HUB_CACHE}: make room, or set HF_HOME"
        )


@contextlib.contextmanager
def _one_line_errors(repository: str, revision: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    from huggingface_hub import errors

    lines = {
        errors.OfflineModeIsEnabled: f"HF_HUB_OFFLINE is set, so {repository} cannot be fetched: unset it this once",
        errors.GatedRepoError: f"{repository} wants its terms accepted on its page: do so, then `hf auth login`",
        errors.RevisionNotFoundError: f"{repository} has no commit {revision}: correct its revision",
        errors.RepositoryNotFoundError: f"the hub has no {repository}: correct the name, or `hf auth login`",
    }
    try:
        yield
    except Exception as error:  # also the network's and the disk's
        cause = error.__cause__ if isinstance(error, errors.DryRunError) and error.__cause__ else error
        line = next((text for kind, text in lines.items() if isinstance(cause, kind)), None)
        line = line or f"{repository} could not be fetched ({first_line(cause)}): run the same command again"
        raise AnonlibError(line) from error
