"""Imports point one way, and every method of the protos is in the one table (house style, The shape)."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from unittest.mock import MagicMock

from broker.rpc.services import routes
from protos.entente.v1 import (
    catalog_pb2,
    exchange_pb2,
    ledger_pb2,
    overlays_pb2,
    rulebook_pb2,
    subscriptions_pb2,
)

FILES = (catalog_pb2, exchange_pb2, ledger_pb2, overlays_pb2, rulebook_pb2, subscriptions_pb2)

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path
    for top in ("broker", "connectors")
    for path in (ROOT / top).rglob("*.py")
    if path.name != "_version.py"
)

# What a part may import of the project, beside itself.
MAY_IMPORT = {
    "broker.model": {"broker.errors"},
    "broker.errors": set(),
    "broker.ports": {"broker.model", "broker.errors"},
    "broker.core": {"broker.model", "broker.errors", "broker.ports", "protos"},
    "broker.rpc": {"broker.model", "broker.errors", "broker.ports", "broker.core", "protos"},
    "broker.adapters": {"broker.model", "broker.errors", "broker.ports"},
    "connectors": {"protos"},
    "connectors.mapping": {"connectors", "protos"},
    "connectors.runtime": {"connectors", "protos"},
    "connectors.kafka": {"connectors", "connectors.mapping", "connectors.runtime", "protos"},
    "connectors.files": {"connectors", "connectors.mapping", "connectors.runtime", "protos"},
    "connectors.cli": {"connectors", "connectors.runtime", "protos"},
}
# Adapters call the core for what is no technology: a record's fingerprint, the forms of rulebook and ledger; and they make
# their clients of Kafka as connectors do.
ADAPTERS_MAY_CALL = {
    "broker.core.audit",
    "broker.core.checkpoint",
    "broker.core.control.encoding",
    "broker.core.control.seal",
    "broker.core.ledger",
    "broker.core.merkle",
    "broker.core.record.fingerprint",
    "broker.core.rulebook",
    "broker.core.witness",
    "connectors.kafka",
}
TECHNOLOGIES = {"grpc", "grpc_health", "grpc_reflection", "kafka", "opa_client", "sqlite3", "aiohttp", "jwt"}
BANNED = {
    "broker.model": TECHNOLOGIES,
    "broker.errors": TECHNOLOGIES,
    "broker.ports": TECHNOLOGIES,
    "broker.core": TECHNOLOGIES,
    "broker.rpc": TECHNOLOGIES - {"grpc", "grpc_health", "grpc_reflection"},
    "connectors": TECHNOLOGIES - {"grpc"},
    "connectors.mapping": TECHNOLOGIES,
    "connectors.runtime": TECHNOLOGIES - {"aiohttp"},
    "connectors.kafka": TECHNOLOGIES - {"kafka"},
    "connectors.files": TECHNOLOGIES,
    "connectors.cli": TECHNOLOGIES - {"aiohttp"},
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The package that a module belongs to; the modules of the Python client lie in `connectors` itself."""
    two = ".".join(module.split(".")[:2])
    return two if two.startswith("broker.") or two in MAY_IMPORT else two.split(".")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that a file imports, also inside functions and for type checking only."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def in_part(path: Path, parts: dict[str, set[str]]) -> str | None:
    part = part_of(name_of(path))
    return part if part in parts else None


def test_imports_point_one_way() -> None:
    assert not [f"{name_of(path)} imports {found}" for path in MODULES for found in forbidden_imports(path)]


def forbidden_imports(path: Path) -> list[str]:
    part = in_part(path, MAY_IMPORT)
    if part is None:  # app wires everything; cli and demo stand on top
        return []
    return sorted(imported for imported in imports_of(path) if not may_import(part, imported))


def may_import(part: str, imported: str) -> bool:
    target = part_of(imported)
    if target.split(".")[0] not in ("broker", "connectors", "protos", "tests") or target == "broker":
        return True
    if part == "broker.adapters" and any(imported.startswith(module) for module in ADAPTERS_MAY_CALL):
        return True
    return target == part or target in MAY_IMPORT[part]


def test_each_technology_stays_where_it_belongs() -> None:
    wrong = {
        name_of(path): used & BANNED[part]
        for path in MODULES
        if (part := in_part(path, BANNED)) is not None
        and (used := {imported.split(".")[0] for imported in imports_of(path)}) & BANNED[part]
    }
    assert not wrong


def test_nobody_but_app_and_what_stands_on_it_imports_adapters() -> None:
    tops = ("broker.adapters", "broker.app", "broker.cli", "broker.demo", "broker")
    users = {
        name_of(path)
        for path in MODULES
        if any(imported.startswith("broker.adapters") for imported in imports_of(path))
    }
    assert not {name for name in users if part_of(name) not in tops}


def test_connectors_never_import_the_broker() -> None:
    connectors = [path for path in MODULES if name_of(path).startswith("connectors")]
    assert connectors
    for path in connectors:
        assert not [imported for imported in imports_of(path) if imported.split(".")[0] == "broker"]


def test_imports_of_the_core_go_in_no_circle() -> None:
    modules = {name_of(path) for path in MODULES}
    graph = {
        name_of(path): modules & imports_of(path)
        for path in MODULES
        if part_of(name_of(path)) in ("broker.core", "broker.rpc", "broker.model", "broker.ports")
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle of imports: {' -> '.join((*above, name))}"
        if name not in done:
            for imported in sorted(graph.get(name, ())):
                # A package's __init__ re-exports its modules, which import each other and never the package.
                if not name.startswith(f"{imported}."):
                    visit(imported, (*above, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_names_and_docstrings() -> None:
    assert not {name_of(path) for path in MODULES if path.stem in NAMES_THAT_SAY_NOTHING}
    # a package's __init__ may be empty
    written = [path for path in MODULES if path.read_text().strip()]
    assert not {name_of(path) for path in written if not ast.get_docstring(tree_of(path))}


def test_functions_stay_short() -> None:
    assert not [f"{name_of(path)}.{name}" for path in MODULES for name in long_functions(path)]


def long_functions(path: Path) -> list[str]:
    """Parameters do not count: commands declare options there."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if statements and node.end_lineno - statements[0].lineno >= 50:
                found.append(node.name)
    return found


def test_every_method_of_the_protos_is_in_the_table() -> None:
    """A method that is not listed would be answered as unknown; one that is not in the protos would have no contract."""
    table = {route.name: route.streaming for route in routes(*(MagicMock() for _ in range(8)))}
    described = {
        f"{service.name}/{method.name}": (method.client_streaming, method.server_streaming)
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(table) == set(described)
    for name, (client, server) in described.items():
        assert server == table[name], f"{name} does not answer as it is listed"
        assert server or not client, f"{name} takes a stream and answers once, which no route serves"


def test_all_protos_of_the_package_are_compared() -> None:
    files = {path.stem for path in (ROOT / "protos" / "entente" / "v1").glob("*.proto")}
    with_services = {
        stem
        for stem in files
        if re.search(r"^service ", (ROOT / f"protos/entente/v1/{stem}.proto").read_text(), re.MULTILINE)
    }
    assert with_services == {"exchange", "subscriptions", "catalog", "ledger", "overlays", "rulebook"}
