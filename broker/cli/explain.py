"""`entente explain`: why something was decided, or would be."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.rulebook.opened import OpaOption, refuse_absent
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all, write_line
from connectors.cli.text import one_line

if TYPE_CHECKING:
    from protos.entente.v1 import rulebook_pb2 as pb

_DECISION = re.compile(r"([a-z0-9-]{1,32})/(0|[1-9][0-9]{0,17})(?:#([0-9]{1,6}))?")
_ASKED = "The question"


@shared_options
def explain(
    given: Given,
    what: Annotated[
        str | None,
        typer.Argument(metavar="REFERENCE|DECISION", help="An error's reference, or INSTANCE/INDEX[#N]."),
    ] = None,
    agency: Annotated[str | None, typer.Option(help="Whom it is about.", rich_help_panel=_ASKED)] = None,
    role: Annotated[list[str] | None, typer.Option(help="Repeat it.", rich_help_panel=_ASKED)] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Such as clearance=red; repeat it.", rich_help_panel=_ASKED),
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="The stated purpose.", rich_help_panel=_ASKED)] = None,
    topic: Annotated[str | None, typer.Option(help="The topic.", rich_help_panel=_ASKED)] = None,
    record: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="SOURCE ID", help="A record that was published.", rich_help_panel=_ASKED),
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Instead: any record of this agency …", rich_help_panel=_ASKED)
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="… of this type …", rich_help_panel=_ASKED)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="… with these labels, such as dataclassification=amber; lists with commas.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Under this one instead of the one in force.")
    ] = None,
    rulebook: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Ask this rulebook instead of the exchange.")
    ] = None,
    opa: OpaOption = None,
) -> None:
    """Show why something was decided, or would be: the rules with file and line, what they read, and what was missing.

    An administrator of the records' owner is told what decided, and, where nothing did, which agreements came nearest.
    Whoever was refused is told what the rulebook marks public, and whom to ask. Without a record: may they subscribe?
    """
    if what is not None:
        request = _of_decision(what)
    else:
        request = _of_question(agency, role, attribute, purpose, topic, at)
        _add_record(request.question, record, owner, type_, dict(_pairs(label, "--label")))
    if rulebook is None:
        answers = call(given, lambda client: client.rulebook.explain(request))
    else:
        answers = [_offline(rulebook, request, opa)]
    _show(choose_format(given.output), answers)


def _of_decision(what: str) -> pb.ExplainRequest:
    from protos.entente.v1 import rulebook_pb2 as pb

    found = _DECISION.fullmatch(what)
    if found is None:
        return pb.ExplainRequest(reference=what)
    place = pb.ExplainDecision(instance=found[1], index=int(found[2]), number=int(found[3] or 0))
    return pb.ExplainRequest(decision=place)


def _of_question(
    agency: str | None,
    roles: list[str] | None,
    attributes: list[str] | None,
    purpose: str | None,
    topic: str | None,
    revision: str | None,
) -> pb.ExplainRequest:
    """Without a record."""
    from protos.entente.v1 import rulebook_pb2 as pb

    if agency is None or purpose is None or topic is None:
        message = "needs a reference, a decision, or --agency, --purpose and --topic"
        raise CommandFailed(message, ExitCode.USAGE)
    question = pb.ExplainQuestion(
        agency=agency,
        roles=roles or (),
        attributes=dict(_pairs(attributes, "--attribute")),
        purpose=purpose,
        topic=topic,
        revision=revision or "",
    )
    return pb.ExplainRequest(question=question)


def _pairs(values: list[str] | None, option: str) -> list[tuple[str, str]]:
    found = []
    for value in values or ():
        name, separator, text = value.partition("=")
        if not (name and separator):
            raise CommandFailed(f"{option}: {value}: write NAME=VALUE", ExitCode.USAGE)
        found.append((name, text))
    return found


def _add_record(
    question: pb.ExplainQuestion,
    record: tuple[str, str] | None,
    owner: str | None,
    type_: str | None,
    labels: dict[str, str],
) -> None:
    if record is not None:
        question.named.source, question.named.id = record
        return
    if owner is None and type_ is None and not labels:
        return
    if owner is None or type_ is None or "dataclassification" not in labels:
        message = "a kind of record needs --owner, --type and --label dataclassification=…"
        raise CommandFailed(message, ExitCode.USAGE)
    kind = question.kind
    kind.owner, kind.type, kind.classification = owner, type_, labels.pop("dataclassification")
    kind.category = labels.pop("datacategory", "")
    kind.regulations.extend(_words(labels.pop("dataregulation", "")))
    kind.purposes.extend(_words(labels.pop("purposes", "")))
    kind.releasable_to.extend(_words(labels.pop("releasableto", "")))
    if labels:
        raise CommandFailed(f"--label: {min(labels)}: is no label that decisions know", ExitCode.USAGE)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _offline(path: Path, request: pb.ExplainRequest, opa: Path | None) -> pb.Explanation:
    from broker.app.examination import explain_in
    from broker.errors import EntenteError, NoDecision, RulebookRefused
    from broker.rpc.explaining import made_up, shown

    refuse_absent(path)
    if request.WhichOneof("about") != "question" or request.question.HasField("named"):
        message = "--rulebook: a rulebook knows no ledger and no records; ask about a kind of record"
        raise CommandFailed(message, ExitCode.USAGE)
    try:
        return shown(asyncio.run(explain_in(path, made_up(request.question), opa)))
    except RulebookRefused as refused:
        raise CommandFailed("; ".join(refused.findings), ExitCode.USAGE) from None
    except (EntenteError, NoDecision) as error:
        raise CommandFailed(str(error)) from None


def _show(form: OutputFormat, answers: list[pb.Explanation]) -> None:
    if form is not OutputFormat.TABLE:
        show_all(form, (), [_as_object(each) for each in answers])
        return
    for number, each in enumerate(answers):
        if number:
            write_line("")
        for line in _public_lines(each.public) if each.HasField("public") else _full_lines(each.full):
            indent = "  " if line.startswith(" ") else ""
            write_line(indent + one_line(line))


def _public_lines(found: pb.PublicExplanation) -> list[str]:
    reasons = ", ".join(found.reasons) or "none that may be told"
    return [f"reasons: {reasons}", f"ask: {found.ask or 'the exchange'}"]


def _full_lines(found: pb.FullExplanation) -> list[str]:
    asked, output = json.loads(found.question), json.loads(found.output or "null")
    who = asked.get("subject", {}).get("agency", "")
    lines = [f"{asked.get('action')}: {who} on {asked.get('topic', '-')}, under {found.revision}"]
    if output is not None:
        lines += [f"  {name}: {_text(value)}" for name, value in sorted(output.items()) if value]
    # Rules whose names begin with "_" are a module's own; what they come to is in those that call them.
    rules = [place for place in found.rules if not place.what.rpartition(".")[2].startswith("_")]
    for heading, places in (("rules that held", rules), ("what they read", found.data)):
        if places:
            lines += [heading, *(f"  {place.file}:{place.line}  {place.what}" for place in places)]
    if found.agreements:
        lines.append("agreements")
        for each in found.agreements:
            said = each.unmet or "applies"
            lines.append(f"  {each.place.file}:{each.place.line}  {each.place.what}: {said}")
    return lines


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _as_object(each: pb.Explanation) -> dict[str, object]:
    if each.HasField("public"):
        return {"reasons": list(each.public.reasons), "ask": each.public.ask}
    found = each.full
    return {
        "revision": found.revision,
        "question": json.loads(found.question),
        "output": json.loads(found.output or "null"),
        "rules": [_place(place) for place in found.rules],
        "data": [_place(place) for place in found.data],
        "agreements": [{**_place(near.place), "unmet": near.unmet or None} for near in found.agreements],
    }


def _place(place: pb.RulebookPlace) -> dict[str, object]:
    return {"file": place.file, "line": place.line, "what": place.what}
