"""What a run will do: which notebooks, with which parameters, into which folder, and which of them are up to date."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anonlib import config
from anonlib.assets import ASSETS, available, models
from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json, sha256_of
from anonlib.config.paths import (
    METHOD,
    PROJECT,
    dataset_name,
    method_files,
    method_hashes,
    output_folder,
    project_root,
)
from anonlib.engine import code as sources
from anonlib.engine import keys, ledger
from anonlib.engine.plugins import load_plugins
from anonlib.paper import captions, notebooks, provenance

OPTIONAL = "08_camouflage"  # left out where the profile does not run CAMOUFLaGE


@dataclass(frozen=True)
class Plan:
    """A checked command: every name in it exists and every value has its type."""

    profile: config.Profile
    dataset: str  # the notebooks' parameter: a registered name or an absolute path
    name: str  # the data set's short name
    data: str  # hash of the data set's files
    output: Path  # the published folder
    chosen: tuple[str, ...]  # notebooks to run
    overrides: Mapping[str, Any]  # of the profile's numbers
    values: Mapping[str, Mapping[str, Any]]  # notebook -> its own parameters that differ from their defaults

    @property
    def parameters_given(self) -> dict[str, Any]:
        """Return the parameters of -p."""
        return {**self.overrides, **{key: value for own in self.values.values() for key, value in own.items()}}

    @property
    def changed(self) -> dict[str, Any]:
        """Return what differs from the profile: parameters, and the user's own methods by file and hash."""
        return self.parameters_given | method_hashes()

    @property
    def title(self) -> str:
        """Return what is run: profile, data set and what differs."""
        changed = [f"{key} = {value}" for key, value in self.parameters_given.items()]
        return ", ".join([f"profile {self.profile.name}", f"data set {self.name}", *changed, *method_hashes()])

    def parameters(self, notebook: str) -> dict[str, Any]:
        """Collect the parameters of a notebook.

        Args:
            notebook: its name.

        Returns:
            What papermill writes into it, by name.
        """
        common = {"PROFILE": self.profile.name, "DATASET": self.dataset, "OVERRIDES": dict(self.overrides)}
        return common | dict(self.values.get(notebook, {}))


def make(profile: str, dataset: str, parameters: list[str], only: list[str]) -> Plan:
    """Check a command and plan it before anything runs.

    Args:
        profile: its name.
        dataset: a registered name, or a folder of person/image.
        parameters: NAME=VALUE, of the profile or of a notebook.
        only: notebooks by name or number; empty: all that the profile runs.

    Raises:
        AnonlibError: an unknown profile, data set, notebook or parameter, or a value of another type or range.
    """
    from anonlib import data
    from anonlib.anonymizers import registry  # it refuses unknown names too

    chosen = notebooks.choose(only)
    overrides, values = notebooks.parse_all(chosen, parameters)
    settings = config.load(profile, overrides)
    if missing := set(registry.names(registry.CAMOUFLAGE)) - set(settings.anonymize.systems):
        if chosen == [OPTIONAL]:
            raise AnonlibError(f"{OPTIONAL} needs {', '.join(sorted(missing))} among anonymize.systems")
        chosen = [name for name in chosen if name != OPTIONAL]
    if dataset not in data.SOURCES and Path(dataset).expanduser().exists():
        dataset = str(Path(dataset).expanduser().resolve())
    fingerprint = data.fingerprint(dataset)
    name = dataset_name(dataset, data.reserved_names(dataset))
    plan = Plan(settings, dataset, name, fingerprint, Path(), tuple(chosen), overrides, values)
    return replace(plan, output=output_folder(profile, name, plan.parameters_given))


def components(plan: Plan, notebook: str) -> dict[str, Any]:
    """Collect all that a notebook's outputs depend on.

    Args:
        plan, notebook: the command, and the notebook's name.

    Returns:
        Part -> value or hash: with equal components a notebook need not run again.
    """
    upstream = [name for name in notebooks.names() if name < notebook]
    defaults = {key: default for key, (_, default) in notebooks.parameters(notebook).items()}
    parameters = defaults | plan.parameters(notebook) | {"DATASET": plan.name} | method_hashes()
    del parameters["OVERRIDES"]  # they are among the profile's numbers
    cells = [[cell["type"], cell["source"], cell["tags"]] for cell in notebooks.cells(notebook)]
    return {
        "notebook": config.digest([cells, captions.text(notebook)]),
        "code": sources.code_hashes([*_own_imports(notebook), *load_plugins()]),
        "parameters": parameters | config.values(plan.profile),
        "data": plan.data,
        "models": _models(plan.profile),
        "lock": ledger.lock_hash(),
        "left_out": [name for name in ASSETS if not available(name)],
        "upstream": {name: _passed_on(plan.output, name) for name in upstream},
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return in words which of a notebook's components differ."""
    reasons = ["the notebook itself changed"] if old["notebook"] != new["notebook"] else []
    reasons += [f"code changed: {name}" for name in keys.changed(old["code"], new["code"])]
    for name in keys.changed(old["parameters"], new["parameters"]):
        reasons.append(f"parameter {name}: {old['parameters'].get(name)} -> {new['parameters'].get(name)}")
    reasons += ["the data set changed"] if old["data"] != new["data"] else []
    reasons += [f"model changed: {name}" for name in keys.changed(old.get("models", {}), new["models"])]
    reasons += ["lock file changed"] if old["lock"] != new["lock"] else []
    before, now = (", ".join(components.get("left_out", [])) or "nothing" for components in (old, new))
    reasons += [f"left out for their licences: {before} -> {now}"] if before != now else []
    return reasons + [f"results changed: {name}" for name in keys.changed(old["upstream"], new["upstream"])]


def stale(plan: Plan, notebook: str) -> list[str]:
    """List why a notebook has to run: no reasons if it is up to date and all its files are still there."""
    state = read_json(state_file(plan.output, notebook))
    if not state:
        return ["it has not run yet"]
    reasons = _differences(state["components"], components(plan, notebook))
    for name, sha256 in state["outputs"].items():
        file = plan.output / name
        if not file.exists() or sha256_of(file) != sha256:
            reasons.append(f"{name} is {'changed' if file.exists() else 'gone'}")
    if state["results"] != recorded(plan.output, notebook):
        reasons.append("its numbers in results.json are changed")
    return reasons


def recorded(output: Path, notebook: str) -> str:
    """Hash the numbers that a notebook has recorded.

    Args:
        output, notebook: the published folder, and the notebook's name.

    Returns:
        A hash.
    """
    results = provenance.results(output)
    return config.digest({key: entry for key, entry in results.items() if entry["notebook"] == notebook})


def _passed_on(output: Path, notebook: str) -> str | None:
    """Return the hash of what later notebooks may read of this one: numbers and data, not drawings."""
    if not (state := read_json(state_file(output, notebook))):
        return None
    data = {name: sha256 for name, sha256 in state["outputs"].items() if Path(name).suffix in (".csv", ".npz")}
    return config.digest([data, state["results"]])


def state_file(output: Path, notebook: str) -> Path:
    """Return the path of the record of a notebook's last whole execution."""
    return output / "notebooks" / f"{notebook}.json"


def _models(profile: config.Profile) -> dict[str, str]:
    """Return the content hash of each model on this machine that a profile may use; hub names are parameters."""
    folders = models.OWN.folders() | models.model_spec(profile.generator).folders()
    there = [path for path in (*folders, models.DEEPPRIVACY2_WEIGHTS, models.FALCO_WEIGHTS) if path.exists()]
    return {keys.label(path): keys.model_hash(path) for path in there}


def _own_imports(notebook: str) -> list[str]:
    """Return the modules that a notebook imports from this package and from the project's other files."""
    homes = (Path(__file__).resolve().parents[1], project_root())
    files = {name: sources.module_file(name) for name in sources.imports(notebooks.code(notebook))}
    return [
        name
        for name, file in files.items()
        if "site-packages" not in file.parts and any(file.is_relative_to(home) for home in homes)
    ]


def environment() -> dict[str, str]:
    """Return the variables of a notebook's process: this checkout, the user's methods, and a fixed number of threads.

    One thread more or less changes last digits: there are 2 unless OMP_NUM_THREADS differs.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    search = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **dict.fromkeys(names, threads),
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # or the kernel warns of frozen modules
        PROJECT: str(project_root()),
        METHOD: ",".join(map(str, method_files())),  # the kernel runs in another folder
    }
