"""The project as a partner or an image gets it: built into a wheel and installed outside the checkout."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def packaged_folders() -> set[str]:
    """The top-level folders that pyproject.toml puts into the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = [folder.name for folder in ROOT.iterdir() if folder.is_dir()]
    return {name for name in folders for pattern in patterns if fnmatch.fnmatch(name, pattern)}


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of its sources below `folder`, without the network, and return its path."""
    source = folder / "source"
    source.mkdir()
    _copy(packaged_folders(), source)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    return _build(source, folder)


def build_client_wheel(folder: Path) -> Path:
    """As `build_wheel`, what a partner installs: the distribution entente-client."""
    source = folder / "source"
    _copy({"connectors", "protos", "deploy/client"}, source)
    return _build(source / "deploy/client", folder)


def _copy(names: set[str], source: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    for name in names:
        shutil.copytree(ROOT / name, source / name, ignore=left_out)


def _build(project: Path, folder: Path) -> Path:
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    subprocess.run([*_PIP, "wheel", *options, str(project)], check=True, timeout=110)
    (wheel,) = folder.glob("*.whl")
    return wheel


def importable(requirements: Iterable[str]) -> frozenset[str]:
    """The top-level packages that installing these requirements brings, of the present interpreter's distributions."""
    waiting = [Requirement(each) for each in requirements]
    distributions: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(wanted.name)
        if name not in distributions:
            distributions.add(name)
            waiting += map(Requirement, requires(name) or ())
    return frozenset(
        package
        for package, owners in packages_distributions().items()
        if distributions & set(map(canonicalize_name, owners))
    )


def install(wheel: Path, target: Path) -> dict[str, str]:
    """Install the wheel below `target` and return a plain environment in which only it provides `entente`.

    The dependencies are the present interpreter's; nothing of the caller's environment is passed on.
    """
    subprocess.run(
        [*_PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        check=True,
        timeout=110,
    )
    return {
        "PATH": f"{target / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": f"{target}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
