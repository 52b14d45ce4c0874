"""Write what the pages take from the sources: the API from the protos, errors from the catalogue, keys from the settings.

python docs/generate.py            write it into the pages, between their markers
python docs/generate.py --check    compare only; exit status 1 if a page differs
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from broker.errors import Reason  # noqa: E402 - the checkout's own, wherever this is started
from docs import settings_tables  # noqa: E402

PROTOS = ROOT / "protos"
_PACKAGE = ".entente.v1."
# FileDescriptorProto's field numbers, as SourceCodeInfo's paths use them (descriptor.proto).
_PACKAGE_PATH, _MESSAGES, _ENUMS, _SERVICES = (2,), 4, 5, 6
_MEMBERS = 2


def api_reference() -> str:
    """Every service, method, message, field and value of package entente.v1, with its comment, as Markdown."""
    return "\n".join(line for file in _descriptors() for line in _File(file).lines())


def error_table() -> str:
    """The catalogue as a Markdown table, in its own order."""
    rows = ["| reason | gRPC status | text |", "|---|---|---|"]
    rows += [f"| `{reason.name}` | {reason.code} | {reason.text('…')} |" for reason in Reason]
    return "\n".join(rows)


PARTS: Mapping[str, tuple[str, Callable[[], str]]] = {
    "api": ("docs/api.md", api_reference),
    "errors": ("docs/errors.md", error_table),
    **{name: ("docs/connectors.md", make) for name, make in settings_tables.TABLES.items()},
}
"""Name of a marked part -> its page, and what it holds."""


def filled(page: str, name: str, content: str) -> str:
    """The page with `content` between the markers of the part. Raises ValueError if the page has no such markers."""
    pattern = re.compile(rf"(<!-- begin {name} -->\n).*(<!-- end {name} -->)", re.DOTALL)
    result, count = pattern.subn(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", page)
    if count != 1:
        raise ValueError(f"the page has no part marked '{name}'")
    return result


def _descriptors() -> list[FileDescriptorProto]:
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / "entente").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        included = Path(protoc.__file__).parent / "_proto"
        arguments = ["protoc", f"--proto_path={PROTOS}", f"--proto_path={included}", "--include_source_info"]
        if protoc.main([*arguments, f"--descriptor_set_out={out}", *sources]) != 0:
            raise RuntimeError("protoc failed; its message is above")
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


class _File:
    """One .proto file and its comments by place."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(place.path): place.leading_comments for place in file.source_code_info.location
        }

    def lines(self) -> Iterator[str]:
        yield f"## {self._file.name}\n"
        yield self._prose(_PACKAGE_PATH) + "\n"
        for index, service in enumerate(self._file.service):
            yield from self._service(service, (_SERVICES, index))
        for index, message in enumerate(self._file.message_type):
            yield from self._message(message, (_MESSAGES, index))
        for index, enum in enumerate(self._file.enum_type):
            yield from self._enum(enum, (_ENUMS, index))

    def _service(self, service: ServiceDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"### service {service.name}\n"
        yield self._prose(path) + "\n"
        for index, method in enumerate(service.method):
            taken = ("stream " if method.client_streaming else "") + _type_link(method.input_type)
            given = ("stream " if method.server_streaming else "") + _type_link(method.output_type)
            yield f"#### {service.name}.{method.name}\n"
            yield f"Takes {taken}, answers {given}.\n"
            yield self._prose((*path, _MEMBERS, index)) + "\n"

    def _message(self, message: DescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"### {message.name}\n"
        yield self._prose(path) + "\n"
        if not message.field:
            return
        yield "| field | type | meaning |"
        yield "|---|---|---|"
        for index, field in enumerate(message.field):
            meaning = self._prose((*path, _MEMBERS, index)).replace("\n", " ")
            if field.HasField("oneof_index"):
                meaning += f" (one of `{message.oneof_decl[field.oneof_index].name}`)"
            yield f"| `{field.name}` | {_field_type(field, message)} | {meaning} |"
        yield ""

    def _enum(self, enum: EnumDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"### {enum.name}\n"
        yield self._prose(path) + "\n"
        yield "| value | meaning |"
        yield "|---|---|"
        for index, value in enumerate(enum.value):
            yield f"| `{value.name}` | {self._prose((*path, _MEMBERS, index))} |"
        yield ""

    def _prose(self, path: tuple[int, ...]) -> str:
        """A place's comment with the wrapping of its source undone, paragraphs kept."""
        paragraphs = re.split(r"\n\s*\n", self._comments.get(path, "").strip())
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        return text.replace("<", "&lt;").replace("|", "\\|")


def _field_type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    entry = next(
        (nested for nested in message.nested_type if field.type_name.endswith(f".{nested.name}")), None
    )
    if entry is not None and entry.options.map_entry:
        key, value = (_field_type(each, entry) for each in entry.field)
        return f"map of {key} to {value}"
    name = _type_link(field.type_name) if field.type_name else _scalar(field)
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def _scalar(field: FieldDescriptorProto) -> str:
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _type_link(type_name: str) -> str:
    if type_name.startswith(_PACKAGE):
        name = type_name.removeprefix(_PACKAGE)
        return f"[{name}](#{name.lower()})"
    return f"`{type_name.removeprefix('.')}`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write what the pages take from the sources.")
    parser.add_argument("--check", action="store_true", help="compare only; exit status 1 if a page differs")
    check = parser.parse_args(arguments).check
    different = False
    for name, (place, make) in PARTS.items():
        page = ROOT / place
        present = page.read_text()
        wanted = filled(present, name, make())
        if wanted == present:
            continue
        different = True
        if check:
            sys.stderr.write(f"{place} differs from its source; run `python docs/generate.py`\n")
        else:
            page.write_text(wanted)
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
