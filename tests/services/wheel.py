"""The project as a partner or an image gets it: built into a wheel and installed outside the checkout."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

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
    for name in packaged_folders():
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    subprocess.run([*_PIP, "wheel", *options, str(source)], check=True, timeout=110)
    (wheel,) = folder.glob("entente-*.whl")
    return wheel


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
