"""A first part of the rulebook for a new agency, with everything explained where it stands.

It passes every check as it is, and grants nobody anything: it is to be changed line by line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.core.rulebook.cases.model import Cases
from broker.core.rulebook.load import GUARANTEES
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.registry import Registry, Vocabulary

_RECORDS = 3
_SCHEMA = "schemas/agency.schema.json"
_AT = "2026-01-01T00:00:00Z"
_NOBODY_YET = """# Who administers: subjects (claim `sub`) of this agency's tokens that may do so, in the role agency-admin.
# Nobody approves what they proposed themselves, so list at least two. Until there is one, the exchange's administrators
# approve what is this agency's:
#   - somebody@agency.example
[]
"""
_KEYWORDS = frozenset(
    [
        "as",
        "contains",
        "data",
        "default",
        "else",
        "every",
        "false",
        "if",
        "import",
        "in",
        "input",
        "not",
        "null",
        "package",
        "some",
        "true",
        "with",
    ]
)


class NotNew(Exception):
    """The agency cannot be added so; one line: what is in the way, and what to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What is said of the new agency; without a clearance, the lowest classification."""

    name: str
    title: str
    contact: str
    roles: Sequence[str] = ()
    purposes: Sequence[str] = ()
    clearance: str | None = None


def skeleton(
    given: Registration, registry: Registry, cases: Cases, files: Mapping[str, bytes], *, time_dependent: bool
) -> dict[str, str]:
    """The new files, path inside the rulebook -> text. Raises NotNew.

    registry, cases, files: of the rulebook that the agency is added to.
    """
    _refuse_what_is_there(given, registry, files)
    words = registry.vocabulary
    agency = Registration(
        given.name,
        given.title,
        given.contact,
        _known(given.roles, words.roles, "role") or _administrators(words),
        _known(given.purposes, words.purposes, "purpose"),
        _clearance(given.clearance, words),
    )
    at = f'at: "{_AT}", ' if time_dependent else ""
    folder = f"agencies/{agency.name}"
    return {
        f"data/administrators/{agency.name}/data.yaml": _NOBODY_YET,
        f"data/agencies/{agency.name}/data.yaml": _data(agency, words),
        f"{folder}/module.rego": _module(agency, words, has_schema=_SCHEMA in files),
        f"{folder}/module_test.rego": _module_test(agency, words),
        f"{folder}/{GUARANTEES}": _guarantees(agency, words),
        f"cases/{agency.name}/principals.yaml": _principals(agency, words),
        f"cases/{agency.name}/receiving.yaml": _cases(agency, registry, cases, at),
    }


def _refuse_what_is_there(given: Registration, registry: Registry, files: Mapping[str, bytes]) -> None:
    if given.name in registry.agencies:
        raise NotNew(f"'{given.name}' is a registered agency already; edit its files, or choose another name")
    for folder in (f"agencies/{given.name}/", f"cases/{given.name}/"):
        if any(path.startswith(folder) for path in files):
            raise NotNew(f"{folder} holds files already; remove them, or choose another name")


def _known(given: Sequence[str], known: frozenset[str], what: str) -> Sequence[str]:
    for word in given:
        if word not in known:
            raise NotNew(f"'{word}' is no {what} of the vocabulary; use one of: {', '.join(sorted(known))}")
    return sorted(set(given))


def _administrators(words: Vocabulary) -> Sequence[str]:
    return [role for role in ("agency-admin",) if role in words.roles]


def _clearance(given: str | None, words: Vocabulary) -> str:
    if given is not None and given not in words.classifications:
        raise NotNew(
            f"'{given}' is no classification of the vocabulary; use one of: {', '.join(words.classifications)}"
        )
    return given or words.classifications[0]


def _data(agency: Registration, words: Vocabulary) -> str:
    clearance = _word(agency.clearance or "")
    attributes = "".join(f"\n  {_word(name)}: {clearance}" for name in sorted(words.attributes)) or " {}"
    return f"""# {agency.title}: who it is, and the most that its tokens may assert.
name: {_quoted(agency.title)}
contact: {_quoted(agency.contact)} # shown in notices and in the catalog

# Who signs its tokens. Nobody can call the exchange for it until there is one:
#   - issuer: https://{agency.name}.example/issuer
#     jwks_file: keys/{agency.name}.jwks.json # or: jwks_url: https://…
issuers: []

roles: {_list(agency.roles)}
purposes: {_list(agency.purposes)}
# The most that its people may be cleared for:
attributes:{attributes}
max_token_lifetime_s: 3600
"""


def _module(agency: Registration, words: Vocabulary, *, has_schema: bool) -> str:
    highest = words.classifications[-1]
    schema = '# schemas:\n#   - input: schema["agency.schema"]\n' if has_schema else ""
    return f"""# METADATA
# title: {_quoted(agency.title)}
# description: |
#   What this agency denies, redacts and obliges beyond what the exchange decides, for its own records (`input.side` is
#   "owner") and for its own people ("consumer"). Nothing here can give anybody more. `input.item` is the question;
#   data.entente.lib has functions to ask it with, which are false where something is missing.
{schema}package {_package(agency.name)}

# METADATA
# title: Denials
# description: Withholds a record, whatever was granted. The text is the reason that the ledger shows.
deny contains "what is {highest} stays with us" if {{
	input.side == "owner"
	input.item.action == "deliver"
	input.item.record.labels.dataclassification == "{highest}"
}}

# Two more sets may be added to. `redact` makes a marking's treatment stricter (keep, mask that keeps characters, pseudonym,
# mask, remove), and `oblige` adds an obligation to what is released:
#   redact contains {{"marking": "…", "treatment": {{"kind": "mask"}}}} if input.side == "consumer"
#   oblige contains "…" if input.side == "owner"
"""


def _module_test(agency: Registration, words: Vocabulary) -> str:
    highest, lowest = words.classifications[-1], words.classifications[0]
    others = (
        f"""
test_other_records_are_not_denied if {{
	count(module.deny) == 0 with input as _asked("owner", "{lowest}")
}}
"""
        if lowest != highest
        else ""
    )
    return f"""package {_package(agency.name)}.module_test

import data.{_package(agency.name)} as module

_asked(side, classification) := {{"agency": "{agency.name}", "side": side, "item": {{
	"action": "deliver",
	"record": {{"labels": {{"dataclassification": classification}}}},
}}}}

test_{_identifier(highest)}_stays_here if {{
	count(module.deny) == 1 with input as _asked("owner", "{highest}")
}}
{others}
test_our_own_people_are_not_concerned if {{
	count(module.deny) == 0 with input as _asked("consumer", "{highest}")
}}
"""


def _guarantees(agency: Registration, words: Vocabulary) -> str:
    above = words.classifications[words.classifications.index(agency.clearance or "") + 1 :]
    text = """# What no change of the rulebook may ever do, whoever makes it: every check tries each agency, role, purpose,
# topic, type and label set. `side: owner` is about this agency's records, `side: consumer` about its people.
#
# medical-data-stays-unreadable:
#   why: Shown to whoever breaks it.
#   side: owner
#   subjects: {agencies: […], roles: […], purposes: […]} # left out: everybody but ourselves
#   except: [{agencies: […], purposes: […]}]
#   records: {topics: […], types: […], labels: {dataclassification: […]}} # left out: all of ours
#   never_keep: […] # markings; or `never: [release, notice]`
"""
    if not above:
        return f"{text}{{}}\n"
    return f"""{text}
nothing-above-our-clearance:
  why: {_quoted(f"Our people are cleared for {agency.clearance}.")}
  side: consumer
  records: {{labels: {{dataclassification: {_list(above)}}}}}
  never: [release, notice]
"""


def _principals(agency: Registration, words: Vocabulary) -> str:
    clearance = _word(agency.clearance or "")
    attributes = "".join(f", {_word(name)}: {clearance}" for name in sorted(words.attributes))
    purpose = f", purpose: {_word(agency.purposes[0])}" if agency.purposes else ""
    return f"""# Who takes part in the cases of {agency.name}, beside those of cases/principals.yaml.
{agency.name}-member: {{agency: {_word(agency.name)}, roles: {_list(agency.roles[:1])}{attributes}{purpose}}}
"""


def _cases(agency: Registration, registry: Registry, cases: Cases, at: str) -> str:
    """Nothing is granted yet, and the cases say so: the first agreement changes one of them."""
    who = f"who: {agency.name}-member"
    lines = [
        f"- {{{who}, record: {sample.name}, {at}effect: withhold}}"
        for sample in cases.records[:_RECORDS]
        if sample.owner != agency.name
    ]
    lines = lines or [
        f"- {{action: subscribe, {who}, topic: {topic}, {at}effect: withhold}}"
        for topic in sorted(registry.topics)[:_RECORDS]
    ]
    body = "\n".join(lines) or "[]"
    return f"""# Who receives what of whom, of what is about {agency.name}. As an agreement grants something, say here what:
# - {{{who}, record: …, effect: release, treatments: {{…: keep}}, obligations: [], reasons: [agreement]}}
{body}
"""


def _package(name: str) -> str:
    plain = name.isidentifier() and name not in _KEYWORDS
    return f"agencies.{name}" if plain else f'agencies["{name}"]'


def _list(words: Sequence[str]) -> str:
    """The words as a list of YAML."""
    return f"[{', '.join(map(_word, words))}]"


def _word(word: str) -> str:
    """The word as it is, unless YAML would take it for something else."""
    try:
        return word if parse_yaml(word.encode()) == word else _quoted(word)
    except DataRefused:
        return _quoted(word)


def _identifier(word: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in word).lower()


def _quoted(text: str) -> str:
    """The text as YAML that means nothing else."""
    return "'" + text.replace("'", "''") + "'"
