"""Generate the Python code and the type stubs of every .proto under protos/, beside it.

    python protos/generate.py            write them
    python protos/generate.py --check    compare them with what is committed; exit status 1 if they differ

protoc names modules after the .proto's path (`entente.v1.exchange_pb2`), but the files live in the Python package
`protos`, so imports between generated files are rewritten to `protos.…`.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
_GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write the generated files of every .proto below `out`, with imports rewritten; raises RuntimeError if protoc fails."""
    sources = proto_files()
    _find_plugins()
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT}",
            f"--proto_path={importlib.resources.files('grpc_tools') / '_proto'}",
            f"--proto_path={_google_rpc_protos()}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *sources,
        ]
    )
    if status != 0:
        raise RuntimeError("protoc failed; its message is above")
    packages = {source.split("/", maxsplit=1)[0] for source in sources}
    for path in generated_files(out):
        if path.stem.endswith("_grpc") and not _declares_service(path.relative_to(out)):
            path.unlink()
        else:
            path.write_text(rewrite_imports(path.read_text(), packages))


def proto_files() -> list[str]:
    """Every .proto below protos/, as sorted paths relative to it."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.proto"))


def generated_files(root: Path) -> list[Path]:
    """The generated files below `root`, sorted."""
    return sorted(path for path in root.rglob("*") if path.name.endswith(_GENERATED))


def rewrite_imports(code: str, packages: set[str]) -> str:
    """Put `protos.` before each module of `packages` (top-level folders of protos/) that is imported or named as own."""
    module = rf"(?:{'|'.join(sorted(map(re.escape, packages)))})(?:\.\w+)*"
    code = re.sub(
        rf"^from ({module}) import (\w+_pb2\b)", r"from protos.\1 import \2", code, flags=re.MULTILINE
    )
    return re.sub(rf"\(DESCRIPTOR, '({module}_pb2)'", r"(DESCRIPTOR, 'protos.\1'", code)


def differences(fresh: Path) -> list[str]:
    """One line for each generated file that is missing, left over or different below protos/."""
    expected = {path.relative_to(fresh): path.read_bytes() for path in generated_files(fresh)}
    present = {path.relative_to(ROOT): path.read_bytes() for path in generated_files(ROOT)}
    lines = [f"protos/{path} is missing" for path in expected.keys() - present.keys()]
    lines += [f"protos/{path} has no .proto any more" for path in present.keys() - expected.keys()]
    lines += [
        f"protos/{path} differs from its .proto"
        for path in expected.keys() & present.keys()
        if expected[path] != present[path]
    ]
    return sorted(lines)


def install(fresh: Path) -> None:
    """Replace the generated files below protos/ by those below `fresh`."""
    for path in generated_files(ROOT):
        path.unlink()
    for path in generated_files(fresh):
        target = ROOT / path.relative_to(fresh)
        shutil.copyfile(path, target)
        for folder in target.relative_to(ROOT).parents:
            (ROOT / folder / "__init__.py").touch()


def _declares_service(generated: Path) -> bool:
    source = ROOT / generated.parent / (generated.name.split("_pb2_grpc")[0] + ".proto")
    return re.search(r"^service\s", source.read_text(), re.MULTILINE) is not None


def _google_rpc_protos() -> Path:
    """The folder that holds google/rpc/status.proto, from googleapis-common-protos."""
    for folder in importlib.resources.files("google.rpc")._paths:  # type: ignore[attr-defined]
        if (Path(folder) / "status.proto").exists():
            return Path(folder).parents[1]
    raise RuntimeError("google/rpc/status.proto was not found; run `make setup-test`")


def _find_plugins() -> None:
    """Put this interpreter's scripts on PATH: protoc looks for protoc-gen-mypy there."""
    scripts = str(Path(sys.executable).parent)
    if shutil.which("protoc-gen-mypy", path=scripts) is None:
        raise RuntimeError("protoc-gen-mypy was not found; run `make setup-test`")
    os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate, or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python code of protos/.")
    parser.add_argument(
        "--check", action="store_true", help="compare only; exit status 1 if something differs"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if not options.check:
            install(fresh)
            return 0
        found = differences(fresh)
    for line in found:
        print(f"{line}; run `make protos`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
