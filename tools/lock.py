"""Resolve pyproject.toml into the locks in requirements/ and environment.yml: `make lock`.

Versions already locked are kept; `make lock ARGS=--upgrade` looks for newer ones.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
CONDA = {  # the machine that environment.yml is for: Linux with an NVIDIA GPU, conda's newest Python 3.11
    "python_version": "3.11",
    "python_full_version": "3.11.14",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
HEADER = "# Made by `make lock` from requirements/cuda.lock: the same packages for conda users with an NVIDIA GPU.\n"


def main(arguments: list[str]) -> None:
    """Write the locks and environment.yml.

    Args:
        arguments: of `uv pip compile`.

    Raises:
        CalledProcessError: the requirements cannot be resolved.
    """
    resolve("cuda", ["pyproject.toml", "--extra", "dev", *arguments])
    peers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    resolve("bench", ["-", "--no-deps", *arguments], "\n".join(peers))
    cuda = (LOCKS / "cuda.lock").read_text()
    (LOCKS / "cpu.lock").write_text(cpu_lock(cuda, (LOCKS / "cpu-wheels.sha256").read_text()))
    (ROOT / "environment.yml").write_text(environment(cuda))


def resolve(lock: str, options: list[str], text: str | None = None) -> None:
    """Resolve requirements for every platform and Python; hashes are of the registry's own files.

    Args:
        lock: name of the lock to write.
        options: files with the requirements, and options of uv.
        text: requirements that "-" among the options stands for.

    Raises:
        CalledProcessError: the requirements cannot be resolved.
    """
    command = [Path(sys.executable).parent / "uv", "pip", "compile", *options, "--quiet"]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--custom-compile-command", "make lock"]
    variables = {key: value for key, value in os.environ.items() if key != "UV_FIND_LINKS"}
    target = ["-o", f"requirements/{lock}.lock"]
    subprocess.run([*command, *target], cwd=ROOT, env=variables, check=True, input=text, text=True)


def cpu_lock(cuda: str, wheels: str) -> str:
    """Derive the CPU lock: without CUDA libraries, with PyTorch's CPU wheels on Linux.

    On Linux torch must be the CPU build, because the registry's build needs CUDA libraries to start; elsewhere the
    registry's build is the CPU build.

    Args:
        cuda: text of the CUDA lock.
        wheels: lines of SHA-256 and file name, as sha256sum prints them.

    Returns:
        Text of the CPU lock.
    """
    head, *blocks = re.split(r"^(?=[A-Za-z0-9])", cuda, flags=re.M)
    cpu = [block for block in blocks if not re.match(r"(nvidia|cuda)-|triton==", block)]
    for index, block in enumerate(cpu):
        name, version = re.match(r"([\w.-]+)==([^\s;]+)", block).groups()
        hashes = re.findall(rf"^(\w{{64}})  {name}-{re.escape(version)}\+cpu-", wheels, re.M)
        lines = " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(hashes))
        if name == "torch":
            linux = f"torch=={version}+cpu ; sys_platform == 'linux' \\\n{lines}\n"
            cpu[index] = linux + block.replace(f"=={version}", f"=={version} ; sys_platform != 'linux'", 1)
        elif hashes:
            cpu[index] = block.replace(" \\\n", f" \\\n{lines} \\\n", 1)
    return head + "".join(cpu)


def environment(cuda: str) -> str:
    """Derive environment.yml: Python from conda, exactly the lock's packages for that Python, and this project.

    Args:
        cuda: text of the CUDA lock.

    Returns:
        Text of environment.yml.
    """
    requirements = [Requirement(line.rstrip(" \\")) for line in cuda.splitlines() if re.match(r"\w", line)]
    pins = [f"{r.name}{r.specifier}" for r in requirements if r.marker is None or r.marker.evaluate(CONDA)]
    lines = ["name: anonlib", "channels: [conda-forge, nodefaults]", "dependencies:"]
    lines += [f"  - python={CONDA['python_version']}", "  - pip", "  - pip:"]
    return HEADER + "\n".join(lines + [f"      - {pin}" for pin in [*pins, "-e ."]]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
