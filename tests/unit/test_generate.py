"""How generated code is fitted into the `protos` package."""

from __future__ import annotations

from pathlib import Path

from protos import generate


def test_imports_between_generated_modules_are_put_into_the_package() -> None:
    code = (
        "from google.protobuf import timestamp_pb2 as t\n"
        "from io.cloudevents.v1 import cloudevents_pb2 as c\n"
        "from entente.v1 import exchange_pb2 as e\n"
        "_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, 'entente.v1.exchange_pb2', _globals)\n"
    )
    assert generate.rewrite_imports(code, {"io", "entente"}) == (
        "from google.protobuf import timestamp_pb2 as t\n"
        "from protos.io.cloudevents.v1 import cloudevents_pb2 as c\n"
        "from protos.entente.v1 import exchange_pb2 as e\n"
        "_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, 'protos.entente.v1.exchange_pb2', _globals)\n"
    )


def test_the_standard_library_is_left_alone() -> None:
    code = "import io\nfrom io import BytesIO\nfrom ioxide.v1 import a_pb2\n"
    assert generate.rewrite_imports(code, {"io", "entente"}) == code


def test_rewriting_twice_changes_nothing() -> None:
    once = generate.rewrite_imports("from entente.v1 import exchange_pb2 as e\n", {"entente"})
    assert generate.rewrite_imports(once, {"entente"}) == once


def test_every_proto_has_its_code_and_stubs() -> None:
    for source in generate.proto_files():
        stem = (generate.ROOT / source).with_suffix("")
        assert Path(f"{stem}_pb2.py").exists()
        assert Path(f"{stem}_pb2.pyi").exists()


def test_what_is_missing_left_over_or_different_is_named(tmp_path: Path) -> None:
    fresh = tmp_path / "entente" / "v1"
    fresh.mkdir(parents=True)
    (fresh / "exchange_pb2.py").write_text("# something else\n")
    (fresh / "new_pb2.py").write_text("")
    found = generate.differences(tmp_path)
    assert "protos/entente/v1/exchange_pb2.py differs from its .proto" in found
    assert "protos/entente/v1/new_pb2.py is missing" in found
    assert "protos/entente/v1/catalog_pb2.py has no .proto any more" in found
