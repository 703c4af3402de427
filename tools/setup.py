"""Create a virtual environment and install the locked packages into it: python3 tools/setup.py FOLDER [auto|cpu|cuda].

Needs Python 3.11 or newer and nothing else. Every file is checked against the hash in the lock. Linux without an NVIDIA
GPU gets the CPU build of torch; with one, the ordinary CUDA pair; macOS has one build only. pip's own settings (index,
wheel folders, certificate) are kept. The folder's file `.lock` names the lock that was installed.
"""

from __future__ import annotations  # so that an old Python reaches the line that says it is too old

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".lock"
Plan = tuple[str, list[str]]  # the name of a lock, and options for uv


def main(venv: Path, torch: str) -> None:
    """Install the locked packages into an environment, or exit with one line.

    Args:
        venv: folder of the environment; its `.lock` file names the lock afterwards.
        torch: "auto", "cpu" or "cuda".

    Raises:
        SystemExit: Python is too old, or nothing can be installed.
    """
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"set-up: Python 3.11 or newer is needed, this is {sys.version.split()[0]}: name one with PYTHON=...")
    if torch not in ("auto", "cpu", "cuda"):
        sys.exit(f"set-up: TORCH={torch} is not one of auto, cpu, cuda")
    python = venv / "bin" / "python"
    if not _succeeds([python, "-m", "pip", "--version"]):
        create(venv)
    bootstrap_uv(python)
    lock = install(python, plans(torch, has_gpu(), sys.platform), *pip_settings(python))
    (venv / STAMP).write_text(f"requirements/{lock}.lock\n")
    print(f"set-up: {venv.name} holds requirements/{lock}.lock", flush=True)


def create(venv: Path) -> None:
    """Create an empty virtual environment with pip, also where Debian keeps pip in a package that is not installed.

    Args:
        venv: its folder, which is replaced.

    Raises:
        SystemExit: this Python cannot create environments.
    """
    shutil.rmtree(venv, ignore_errors=True)
    if _succeeds([sys.executable, "-m", "venv", venv]):
        return
    shutil.rmtree(venv, ignore_errors=True)
    if not (_succeeds([sys.executable, "-m", "venv", "--without-pip", venv]) and add_pip(venv / "bin" / "python")):
        shutil.rmtree(venv, ignore_errors=True)
        sys.exit(
            "set-up: this Python cannot make virtual environments: "
            "run 'sudo apt-get update && sudo apt-get install python3-venv', then the same command again"
        )


def add_pip(python: Path) -> bool:
    """Install pip from Debian's own package, which apt downloads and checks without installing it.

    Args:
        python: of the environment.

    Returns:
        Whether pip is there now.
    """
    with tempfile.TemporaryDirectory() as folder:
        if not _succeeds(["apt-get", "download", "python3-pip-whl"], cwd=folder):
            return False
        for package in Path(folder).glob("*.deb"):
            _succeeds(["dpkg-deb", "-x", package, folder])
        wheels = Path(folder).glob("usr/share/python-wheels/pip-*.whl")
        return any(_succeeds([python, wheel / "pip", "install", "--no-index", wheel]) for wheel in wheels)


def bootstrap_uv(python: Path) -> None:
    """Install the locked uv with pip, hash checked, unless it is there already.

    Args:
        python: of the environment.

    Raises:
        SystemExit: pip cannot download it.
    """
    block = re.search(r"^uv==(\S+).*?(?=^\S|\Z)", (ROOT / "requirements" / "cpu.lock").read_text(), re.M | re.S)
    if _output([_uv(python), "--version"]).split()[1:2] == [block[1]]:
        return
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "uv.txt")
        pins.write_text(block[0])
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--require-hashes", "-r", pins]).returncode:
            sys.exit("set-up: pip cannot fetch uv: check the network and pip's settings, then the same command again")


def has_gpu() -> bool:
    """Return whether the NVIDIA driver lists a GPU."""
    return "GPU" in _output(["nvidia-smi", "-L"])


def plans(torch: str, gpu: bool, platform: str) -> list[Plan]:
    """List the locks to try in turn.

    The CPU build of torch is searched for in pip's wheel folders, then on PyTorch's own index, which uv knows. The CUDA
    build, several GB, also runs on a CPU and is the last resort, unless "cpu" was requested.

    Args:
        torch: "auto", "cpu" or "cuda".
        gpu: whether there is an NVIDIA GPU.
        platform: as `sys.platform` names it.

    Returns:
        Names of locks with uv's options.
    """
    if torch == "cuda" or (torch == "auto" and gpu):
        return [("cuda", [])]
    if platform != "linux":
        return [("cpu", [])]
    cpu = [("cpu", []), ("cpu", ["--torch-backend=cpu"])]
    return cpu if torch == "cpu" else [*cpu, ("cuda", [])]


def pip_settings(python: Path) -> tuple[list[str], dict[str, str]]:
    """Read pip's settings for uv.

    Args:
        python: of the environment.

    Returns:
        Index and wheel folders as uv options, and the certificate as environment variables.
    """
    listed = _output([python, "-m", "pip", "config", "list"]).splitlines()
    settings = {}
    for section in ("global", "install", ":env:"):  # pip's own precedence, the last one wins
        for key, _, value in (line.partition("=") for line in listed if line.startswith(f"{section}.")):
            settings[key.removeprefix(f"{section}.")] = ast.literal_eval(value)
    options = [part for place in settings.get("find-links", "").split() for part in ("--find-links", place)]
    if "index-url" in settings:
        options += ["--default-index", settings["index-url"]]
    return options, {"SSL_CERT_FILE": settings["cert"]} if "cert" in settings else {}


def install(python: Path, candidates: list[Plan], options: list[str], variables: dict[str, str]) -> str:
    """Install the first lock that can be resolved, and this project.

    The two builds of torch have one version, so torch is installed anew when the lock changes.

    Args:
        python: of the environment.
        candidates: locks to try in turn.
        options: of uv.
        variables: environment variables of uv.

    Returns:
        The lock's name.

    Raises:
        SystemExit: no lock can be installed.
    """
    environment = {**variables, **os.environ}
    before = installed(python.parent.parent)
    reason = ""
    for lock, extra in candidates:
        sync = [_uv(python), "pip", "sync", "--python", python, "--require-hashes", *options, *extra]
        sync.append("--compile-bytecode")  # as pip does: every kernel and worker would compile diffusers by itself
        if before not in (None, lock):
            sync += ["--reinstall-package", "torch", "--reinstall-package", "torchvision"]
        sync.append(ROOT / "requirements" / f"{lock}.lock")
        trial = subprocess.run([*sync, "--dry-run"], env=environment, capture_output=True, text=True)
        if trial.returncode:
            reason = trial.stderr.strip()
            continue
        if reason and lock == "cuda":
            print("set-up: no CPU build of torch is within reach: the ordinary one, several GB, serves as well")
        print(f"set-up: installing requirements/{lock}.lock", *extra, flush=True)
        editable = [_uv(python), "pip", "install", "--python", python, "--quiet", "--no-deps", "--offline"]
        editable += ["--no-build-isolation", "-e", ROOT]
        if all(subprocess.run(command, env=environment).returncode == 0 for command in (sync, editable)):
            return lock
    sys.exit(f"{reason}\nset-up: the locked packages cannot be installed: check the network, then run make again")


def installed(venv: Path) -> str | None:
    """Read which lock an environment has.

    Args:
        venv: its folder.

    Returns:
        The lock's name, or None.
    """
    stamp = venv / STAMP
    return Path(stamp.read_text().strip()).stem if stamp.exists() else None


def _uv(python: Path) -> Path:
    return python.parent / "uv"


def _output(command: list) -> str:
    """Return what a command prints, or nothing when it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _succeeds(command: list, cwd: str | None = None) -> bool:
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).absolute(), sys.argv[2] if len(sys.argv) > 2 else "auto")
    except KeyboardInterrupt:
        sys.exit("set-up: stopped; the same command goes on from there")
