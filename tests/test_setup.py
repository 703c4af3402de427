"""The set-up: locks, environment.yml, Makefile and bootstrap agree, and name no machine."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import anonlib

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {name: (ROOT / "requirements" / f"{name}.lock").read_text() for name in ("cpu", "cuda")}
# written so that these lines do not match themselves
HOSTS = re.compile(r"py(?:pi|thonhosted)\.org|download[\w-]*\.pyt[o]rch|registry\.np[m]js|conda\.anacon[d]a|file:/[/]/")
PATHS = re.compile(r"(?<![\w/+.=~$}-])/(?:op[t]|wor[k]|roo[t]|hom[e]|User[s])/\w")


def tool(name: str):
    """Return tools/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(lock: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Return name -> version of a lock's packages for one machine, this one by default."""
    found = {}
    for line in re.findall(r"^(\w[^\\\n]*?)(?: \\)?$", lock, re.M):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found, f"{requirement.name} is pinned twice for one machine"
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def committed_texts() -> list[tuple[str, str]]:
    """Return (name, text) of every text file that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    contents = ((name, (ROOT / name).read_bytes()) for name in listed if name and (ROOT / name).is_file())
    return [(name, content.decode(errors="replace")) for name, content in contents if b"\0" not in content[:8192]]


def test_every_pin_has_a_hash():
    for name, lock in LOCKS.items():
        blocks = re.split(r"^(?=\w)", lock, flags=re.M)[1:]
        assert len(blocks) > 150
        for block in blocks:
            hashed = re.match(r"[\w.-]+==[\w.+]+( ; .*)? \\\n    --hash=sha256:\w{64}", block)
            assert hashed, f"{name}.lock: {block[:80]}"


def test_locks_differ_only_in_torch_and_its_cuda_libraries():
    linux = tool("lock").CONDA
    cpu, cuda = pins(LOCKS["cpu"], linux), pins(LOCKS["cuda"], linux)
    assert cpu.pop("torch") == cuda.pop("torch") + "+cpu"
    only_cuda = cuda.keys() - cpu.keys()
    assert only_cuda and all(re.match(r"(nvidia|cuda)-|triton$", name) for name in only_cuda)
    assert cpu == {name: version for name, version in cuda.items() if name not in only_cuda}


def test_cpu_lock_is_made_from_the_cuda_lock():
    wheels = (ROOT / "requirements" / "cpu-wheels.sha256").read_text()
    assert tool("lock").cpu_lock(LOCKS["cuda"], wheels) == LOCKS["cpu"]
    torch = LOCKS["cpu"].split("\ntorch==")[1]
    assert torch.startswith("2.13.0+cpu ; sys_platform == 'linux'")
    assert set(re.findall(r"^(\w{64})  torch-", wheels, re.M)) == set(re.findall(r"sha256:(\w{64})", torch))


def test_environment_yml_is_the_cuda_lock():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = conda["dependencies"]
    assert (python, pip, packages["pip"][-1]) == ("python=3.11", "pip", "-e .")
    listed = dict(pin.split("==") for pin in packages["pip"][:-1])
    assert listed == pins(LOCKS["cuda"], tool("lock").CONDA)


def test_direct_dependencies_are_locked_at_their_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]
    locked = pins(LOCKS["cuda"], tool("lock").CONDA)
    assert {requirement.name: f"=={locked[requirement.name]}" for requirement in direct} == {
        requirement.name: str(requirement.specifier) for requirement in direct
    }


def test_every_imported_package_is_a_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    direct = {canonicalize_name(Requirement(line).name) for line in lines}
    owners = importlib.metadata.packages_distributions()
    for file in [*(ROOT / "anonlib").rglob("*.py"), *(ROOT / "tests").glob("*.py"), *(ROOT / "tools").glob("*.py")]:
        for module in imported(file.read_text()):
            owned = {canonicalize_name(owner) for owner in owners.get(module, [])} - {"anonlib"}
            assert not owned or owned & direct, f"{file.name} imports {module}: name its package in pyproject.toml"


def imported(source: str) -> set[str]:
    """Return the top-level names that a source file imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def test_this_environment_is_the_locked_one():
    for name, version in pins(LOCKS["cpu"]).items():
        assert importlib.metadata.version(name).partition("+")[0] == version.partition("+")[0], f"{name}: `make setup`"


def test_there_is_one_opencv():
    assert [name for name in pins(LOCKS["cuda"]) if "opencv" in name] == ["opencv-python-headless"]
    here = {canonicalize_name(found.metadata["Name"]) for found in importlib.metadata.distributions()}
    assert [name for name in here if "opencv" in name] == ["opencv-python-headless"]


def test_committed_texts_name_no_registry_and_no_machine():
    texts = committed_texts()
    assert {"Makefile", "requirements/cpu.lock"} <= {name for name, _ in texts}
    for name, text in texts:
        for found in (HOSTS.search(text), PATHS.search(text)):
            line = text.count("\n", 0, found.start()) + 1 if found else 0
            assert found is None, f"{name}, line {line}: {text[found.start() - 20 : found.end() + 20]!r}"
    for name in LOCKS:
        assert "://" not in LOCKS[name] and " -" not in LOCKS[name].replace("    --hash=", "").replace("    # ", "")


@pytest.mark.parametrize("text", ["https://py" + "pi.org/simple", "'/ho" + "me/someone'", "see /op" + "t/wheels"])
def test_a_registry_or_a_machine_would_be_found(text):
    assert HOSTS.search(text) or PATHS.search(text)


def make(*arguments: str) -> str:
    """Return what make prints; it runs as if from a shell, also inside `make test`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_alone_lists_every_target():
    printed = make()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert {"help", "setup", "paper", "figures", "explain", "test", "data", "models", "lab", "clean"} <= set(phony)
    for target in phony:
        assert re.search(rf"^  {target} +\w", printed, re.M), f"{target} has no line in the help"


def test_make_passes_its_options_on():
    asked = make("-n", "paper", "PY=python", "PROFILE=smoke", "DATASET=my faces", "ACCEPT=noncommercial")
    assert 'python -m anonlib.paper.cli run --profile "smoke" --dataset "my faces"' in asked
    assert "python -m anonlib.paper.cli fetch" in asked
    assert '--profile "demo"' in make("-n", "paper", "PY=python")


def test_clean_spares_the_cache_and_the_environment():
    commands = make("-n", "clean")
    assert "cache" not in commands.replace("__pycache__", "").replace(".pytest_cache", "").replace(".ruff_cache", "")
    assert "rm -rf .venv" not in commands and "models" not in commands


def test_continuous_integration_runs_the_readme_s_test_command():
    command = re.search(r"## Tests\n\n```\n(.*)\n```", (ROOT / "README.md").read_text())[1]
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == f"exec {command}"


def test_citation_and_package_have_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == importlib.metadata.version("anonlib") == anonlib.__version__
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]


@pytest.mark.parametrize(
    ("torch", "gpu", "platform", "expected"),
    [
        ("auto", True, "linux", ["cuda"]),
        ("auto", False, "linux", ["cpu", "cpu --torch-backend=cpu", "cuda"]),
        ("cpu", True, "linux", ["cpu", "cpu --torch-backend=cpu"]),
        ("cuda", False, "linux", ["cuda"]),
        ("auto", False, "darwin", ["cpu"]),
    ],
)
def test_bootstrap_chooses_the_build_of_torch(torch, gpu, platform, expected):
    assert [" ".join([lock, *options]) for lock, options in tool("setup").plans(torch, gpu, platform)] == expected


def fake_uv(venv: Path, refuses: str) -> Path:
    """Put a uv into `venv` that notes its arguments and fails where they match a shell pattern; return the python."""
    script = f'#!/bin/sh\necho "$*" >> "{venv}/log"\ncase "$*" in {refuses}) echo "no such wheel" >&2; exit 1;; esac\n'
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "uv").write_text(script)
    (venv / "bin" / "uv").chmod(0o755)
    return venv / "bin" / "python"


def test_bootstrap_falls_back_to_the_next_build(tmp_path):
    setup = tool("setup")
    python = fake_uv(tmp_path, "*cpu.lock*")
    assert setup.install(python, setup.plans("auto", False, "linux"), ["--find-links", "wheels"], {}) == "cuda"
    lines = (tmp_path / "log").read_text().splitlines()
    assert ["--dry-run" in line for line in lines] == [True, True, True, False, False]
    assert all("--require-hashes --find-links wheels" in line for line in lines[:4])
    assert "--torch-backend=cpu" not in lines[0] and "--torch-backend=cpu" in lines[1]


def test_bootstrap_installs_torch_anew_when_its_build_changes(tmp_path):
    setup = tool("setup")
    python = fake_uv(tmp_path, "never")
    (tmp_path / setup.STAMP).write_text("requirements/cpu.lock\n")
    setup.install(python, [("cpu", [])], [], {})
    setup.install(python, [("cuda", [])], [], {})
    anew = ["--reinstall-package torch " in line for line in (tmp_path / "log").read_text().splitlines()]
    assert anew == [False, False, False, True, True, False]


def test_bootstrap_ends_in_one_line_when_nothing_can_be_installed(tmp_path):
    setup = tool("setup")
    with pytest.raises(SystemExit, match="no such wheel\nset-up: .* check the network"):
        setup.install(fake_uv(tmp_path, "*"), setup.plans("cpu", False, "linux"), [], {})


def test_bootstrap_names_the_debian_package_that_is_missing(tmp_path, monkeypatch):
    setup = tool("setup")
    monkeypatch.setattr(setup.sys, "executable", "false")
    with pytest.raises(SystemExit, match="apt-get install python3-venv"):
        setup.create(tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_bootstrap_keeps_pip_s_settings(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    written = "[global]\ncert = a.pem\nfind-links = one two\nindex-url = https://mirror.test/simple\n"
    (tmp_path / "pip.conf").write_text(written)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "three")
    options, variables = tool("setup").pip_settings(Path(sys.executable))
    assert options == ["--find-links", "three", "--default-index", "https://mirror.test/simple"]
    assert variables == {"SSL_CERT_FILE": "a.pem"}
