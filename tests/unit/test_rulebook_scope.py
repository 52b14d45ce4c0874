"""What an agency's administrators see of the rulebook: nothing that depends on what is not theirs."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.rulebook.archive import read_archive
from broker.core.rulebook.areas import areas_of
from broker.core.rulebook.cases.model import RecordSample
from broker.core.rulebook.difference import compare
from broker.core.rulebook.examine import Examination
from broker.core.rulebook.examined import check_of, refused
from broker.core.rulebook.findings import Finding, Severity
from broker.core.rulebook.guarantees.model import Breach, Guarantee, RecordPattern, SubjectPattern
from broker.core.rulebook.guarantees.run import Counterexample, GuaranteeOutcome
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.pack import pack
from broker.core.rulebook.probing import probing_findings
from broker.core.rulebook.proposals import Check, Proposal, SaidOf
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.scope import HIDDEN, View, merged, own_keys
from broker.core.rulebook.submission import read_submission
from broker.core.rulebook.verdicts import guarantee_findings
from broker.errors import EntenteError, Reason, RulebookRefused
from broker.model.decision import Decision, Effect
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from tests.fakes.rulebook import ROOT

EMS = View("ems")
SECRET = "data/agreements/highway-patrol/data.yaml"


def rulebook(**changes: bytes | None) -> Revision:
    """The default one with keys, as changed; None removes a file."""
    files = dict(read_rulebook(ROOT / "policy").files)
    for agency in ("ems", "exchange", "transport", "highway-patrol", "cyber-centre", "partner-cert"):
        files[f"keys/{agency}.jwks.json"] = b'{"keys":[]}'
    files["cases/ems/own.yaml"] = b"[]\n"
    for path, content in changes.items():
        files.pop(path, None)
        if content is not None:
            files[path] = content
    return revision_of(files)


@pytest.fixture(scope="module")
def present() -> Revision:
    return rulebook()


@pytest.fixture(scope="module")
def registry(present: Revision) -> Registry:
    return parse_registry(present)


def no_parse(path: str, source: bytes) -> Any:
    raise ValueError(path)


def added(revision: Revision, path: str, name: str, value: Any) -> Revision:
    """The revision with one more member in a data file."""
    members = yaml.safe_load(revision.files.get(path, b"{}"))
    text = yaml.safe_dump({**members, name: value}, sort_keys=False).encode()
    return revision_of({**revision.files, path: text})


AGREEMENT = {
    "consumer": "cyber-centre",
    "topics": ["crash-reports"],
    "purposes": ["cyber-defence"],
    "highest": "red",
    "grants": "records",
    "treatments": {},
    "obligations": [],
    "from": "2026-01-01T00:00:00Z",
    "until": None,
    "history": True,
}


def test_a_secret_agreement_changes_nothing_that_another_agency_is_shown(present: Revision) -> None:
    secret = added(present, SECRET, "secret", AGREEMENT)
    assert secret.id != present.id
    assert EMS.part(secret) == EMS.part(present)
    assert compare(EMS.part(present), EMS.part(secret), no_parse) == ()
    owner = View("highway-patrol")
    assert owner.part(secret).id != owner.part(present).id
    assert View().part(secret) is secret


def test_what_is_shown(present: Revision) -> None:
    shown = set(EMS.files(present))
    assert {
        "agencies/ems/module.rego",
        "agencies/ems/guarantees.yaml",
        "cases/ems/own.yaml",
        "data/agencies/ems/data.yaml",
        "data/administrators/ems/data.yaml",
        "data/vocabulary/data.yaml",
        "entente/decision/decision.rego",
        "keys/ems.jwks.json",
        "manifest.yaml",
    } <= shown
    others = {"cyber-centre", "highway-patrol", "partner-cert", "transport", "exchange"}
    assert not [path for path in shown if others & {part.split(".")[0] for part in path.split("/")}]
    assert not [path for path in shown if path.endswith("_test.rego") and path.startswith("entente/")]
    assert not shown & {"entente/guarantees.yaml", "data/topics/data.yaml", "cases/records.yaml"}


@settings(max_examples=30)
@given(st.data())
def test_nothing_shown_depends_on_any_hidden_file(present: Revision, data: st.DataObject) -> None:
    shown = EMS.files(present)
    hidden = sorted(present.files.keys() - shown.keys())
    touched = data.draw(
        st.dictionaries(st.sampled_from(hidden), st.none() | st.binary(max_size=20), max_size=5)
    )
    files = {**present.files, **touched}
    files = {path: content for path, content in files.items() if content is not None}
    other = replace(present, files=files)
    assert EMS.part(other) == EMS.part(present)


def test_an_agency_whose_name_begins_like_another_is_another(present: Revision) -> None:
    files = {
        "agencies/ems-north/module.rego": b"package agencies.x\n",
        "data/agreements/ems-north/data.yaml": b"{}\n",
        "cases/ems-north/a.yaml": b"[]\n",
    }
    with_it = revision_of({**present.files, **files})
    assert EMS.part(with_it) == EMS.part(present)


def test_a_proposal_of_an_agency_is_its_own_part_on_what_is_in_force(
    present: Revision, registry: Registry
) -> None:
    pulled = dict(EMS.files(present))
    pulled["agencies/ems/module.rego"] += b"\n# more\n"
    del pulled["cases/ems/own.yaml"]
    pulled["data/agreements/ems/data.yaml"] = b"{}\n"
    made = revision_of(merged(present, pulled, "ems", own_keys(registry, "ems")))
    paths = made.files.keys() | present.files.keys()
    assert {path for path in paths if made.files.get(path) != present.files.get(path)} == {
        "agencies/ems/module.rego",
        "cases/ems/own.yaml",
        "data/agreements/ems/data.yaml",
    }
    assert {area.owner for area in areas_of(present, made, registry)} == {"ems"}


@pytest.mark.parametrize(
    "path",
    [
        SECRET,
        "data/agreements/nobody/data.yaml",
        "data/topics/data.yaml",
        "keys/transport.jwks.json",
        "keys/nobody.jwks.json",
        "entente/guarantees.yaml",
        "entente/decision/decision.rego",
        "data/agencies/ems/data.yaml",
        "data/administrators/ems/data.yaml",
        "cases/records.yaml",
        "cases/nothing.yaml",
    ],
)
def test_what_is_not_an_agencys_is_refused_alike_whether_it_is_there_or_not(
    present: Revision, registry: Registry, path: str
) -> None:
    for content in (b"guess\n", present.files.get(path, b"guess\n") + b"\n"):
        with pytest.raises(RulebookRefused) as refused_:
            merged(present, {**EMS.files(present), path: content}, "ems", own_keys(registry, "ems"))
        expected = f"{path}: is not ems's to change; take it as it was pulled, or leave it out"
        assert refused_.value.findings == (expected,)


def test_a_hidden_file_is_refused_even_if_it_was_guessed_right(present: Revision, registry: Registry) -> None:
    sent = {**EMS.files(present), SECRET: present.files[SECRET]}
    with pytest.raises(RulebookRefused):
        merged(present, sent, "ems", own_keys(registry, "ems"))


def test_keys_that_another_agency_names_too_are_nobodys_own(present: Revision) -> None:
    path = "data/agencies/transport/data.yaml"
    shared = present.files[path].replace(b"keys/transport.jwks.json", b"keys/ems.jwks.json")
    registry = parse_registry(revision_of({**present.files, path: shared}))
    assert own_keys(registry, "ems") == frozenset()


def test_a_submission_names_no_place_of_this_machine(
    present: Revision, registry: Registry, tmp_path: Path
) -> None:
    archive = tmp_path / "sent.tar.gz"
    archive.write_bytes(b"no archive")
    for view in (View(), EMS):
        with pytest.raises(EntenteError) as error:
            read_submission(present, registry, view, archive)
        assert error.value.reason is Reason.RULEBOOK_REFUSED
        assert str(tmp_path) not in str(error.value)


def test_an_unchanged_submission_says_so(present: Revision, registry: Registry, tmp_path: Path) -> None:
    for view in (View(), EMS):
        archive = tmp_path / "sent.tar.gz"
        with archive.open("wb") as file:
            pack(view.files(present), file)
        with pytest.raises(EntenteError) as error:
            read_submission(present, registry, view, archive)
        assert error.value.reason is Reason.RULEBOOK_UNCHANGED


def test_a_packed_rulebook_is_the_same_revision_and_the_same_bytes(present: Revision, tmp_path: Path) -> None:
    one, other = io.BytesIO(), io.BytesIO()
    pack(present.files, one)
    pack(dict(reversed(present.files.items())), other)
    assert one.getvalue() == other.getvalue()
    archive = tmp_path / "packed.tar.gz"
    archive.write_bytes(one.getvalue())
    assert read_archive(archive) == present


# -- findings -------------------------------------------------------------------------------------------------------


def test_errors_in_others_files_are_told_as_one_whatever_they_are() -> None:
    own = SaidOf(Finding("agencies/ems/module.rego", 3, "is odd", "look", Severity.WARNING))
    one = SaidOf(Finding(SECRET, 9, "secret is wrong", "correct it"))
    other = SaidOf(Finding("rulebook", None, "does not run: secret", "correct it"))
    warning = SaidOf(Finding("cases/", None, "there are none", "write some", Severity.WARNING))
    assert list(EMS.findings(Check(False, (one, own)))) == [own.finding, HIDDEN]
    assert list(EMS.findings(Check(False, (one, other, warning, own)))) == [own.finding, HIDDEN]
    assert list(EMS.findings(Check(True, (warning, own)))) == [own.finding]
    assert list(View().findings(Check(False, (one, other)))) == [one.finding, other.finding]


def test_an_agencys_folder_that_is_too_full_is_its_own_finding() -> None:
    full = Finding("agencies/ems", None, "holds 101 files, more than 100", "join them")
    assert list(EMS.findings(Check(False, (SaidOf(full),)))) == [full]
    assert list(View("em").findings(Check(False, (SaidOf(full),)))) == [HIDDEN]


def test_a_slow_rule_is_told_without_the_question_that_it_was_slow_on() -> None:
    what = (
        "data.agencies.ems.deny is too slow: deciding 'cyber-centre under secret' (data/agreements/x/data.yaml:3) "
        "takes 9.0 ms, and a decision may take 5 ms, 80% of it here"
    )
    check = refused([Finding("agencies/ems/module.rego", 3, what, "do less")])
    (told,) = EMS.findings(check)
    assert told.what == "data.agencies.ems.deny is too slow"
    (whole,) = View().findings(check)
    assert whole.what == what


def test_a_check_is_bounded() -> None:
    many = [Finding("a.yaml", number, "w" * 5_000, "r") for number in range(1_000)]
    check = check_of(Examination("", tuple(many)))
    assert check.cut
    assert not check.accepted
    assert 10 < len(check.findings) <= 200
    assert max(len(each.finding.what) for each in check.findings) == 1_000


def test_who_is_concerned_by_a_proposal() -> None:
    proposal = Proposal(
        "p", "r2", "r1", ("exchange", "ann"), "why", 1, (("agreement", "ems"), ("topic", "")), False, "one", 1
    )
    assert EMS.concerns(proposal)
    assert EMS.areas(proposal) == (("agreement", "ems"),)
    assert not View("transport").concerns(proposal)
    assert not View("").concerns(replace(proposal, areas=(("agreement", "ems"),)))
    assert View().areas(proposal) == proposal.areas


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["vulnerabilities", "no-such-topic"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data/agreements/ems/data.yaml", {"probe": {"topics": ["TOPIC"]}}),
        ("agencies/ems/guarantees.yaml", {"probe": {"records": {"topics": ["TOPIC"]}}}),
        ("cases/ems/records.yaml", {"probe": {"topic": "TOPIC"}}),
        ("cases/ems/probe.yaml", [{"action": "subscribe", "topic": "TOPIC"}]),
    ],
)
def test_a_hidden_topic_and_a_missing_one_are_one_finding(
    present: Revision, registry: Registry, path: str, value: Any, topic: str
) -> None:
    text = yaml.safe_dump(value).replace("TOPIC", topic).encode()
    (found,) = probing_findings(no_parse, registry, without_modules(present, **{path: text}), "ems")
    assert found.what.endswith(f"'{topic}' is no topic that ems uses")
    assert found.file == path


def without_modules(present: Revision, **files: bytes) -> Revision:
    kept = {path: content for path, content in present.files.items() if not path.startswith("agencies/ems/")}
    return revision_of({**kept, **files})


def test_what_an_agency_uses_may_be_named(present: Revision, registry: Registry) -> None:
    text = yaml.safe_dump({"own": {"topics": ["crash-reports"]}}).encode()
    changed = without_modules(present, **{"data/agreements/ems/data.yaml": text})
    assert "crash-reports" in registry.topics
    assert probing_findings(no_parse, registry, changed, "ems") == ()


@pytest.mark.parametrize(
    "case",
    [
        {"action": "subscribe", "who": "theirs", "topic": "crash-reports"},
        {"action": "subscribe", "who": "nobody", "topic": "crash-reports"},
        {"action": "subscribe", "who": "ours", "as": {"agency": "transport"}, "topic": "crash-reports"},
        {"action": "administer", "who": "ours", "areas": ["module/transport"], "approvals": ["ours"]},
        {"action": "administer", "who": "ours", "areas": ["topic"], "approvals": ["ours"]},
        {"action": "administer", "who": "ours", "areas": ["module/ems"], "approvals": ["theirs"]},
        {"action": "administer", "who": "ours", "areas": ["module/ems"], "author": "theirs"},
        {"action": "administer", "who": "ours", "verb": "withdraw", "about": {"owner": "transport"}},
    ],
)
def test_an_agencys_cases_do_not_ask_about_others(
    present: Revision, registry: Registry, case: dict[str, Any]
) -> None:
    """Whoever looks after a topic would learn from such a case who else may subscribe to it: by a secret agreement."""
    principals = {
        "ours": {"agency": "ems", "roles": ["paramedic"]},
        "theirs": {"agency": "transport", "roles": ["analyst"]},
    }
    files = {
        "cases/ems/principals.yaml": yaml.safe_dump(principals).encode(),
        "cases/ems/probe.yaml": yaml.safe_dump([case]).encode(),
    }
    (found,) = probing_findings(no_parse, registry, without_modules(present, **files), "ems")
    assert found.what == "0: is not about ems's people and areas alone"
    own = {**case, "who": "ours", "as": {}, "areas": ["module/ems"], "author": "ours", "approvals": ["ours"]}
    files["cases/ems/probe.yaml"] = yaml.safe_dump([{**own, "about": {"owner": "ems"}}]).encode()
    assert probing_findings(no_parse, registry, without_modules(present, **files), "ems") == ()


def test_whose_type_it_is_that_one_registers_too_is_not_told(present: Revision, registry: Registry) -> None:
    name = next(each.name for each in registry.record_types.values() if each.owner == "cyber-centre")
    text = yaml.safe_dump({name: {}, "new.type.v1": {}}).encode()
    changed = without_modules(present, **{"data/record_types/ems/data.yaml": text})
    (found,) = probing_findings(no_parse, registry, changed, "ems")
    assert found.what == f"{name}: is no name for a new type"


def guarantee_of(agency: str, owner: str) -> GuaranteeOutcome:
    """A broken guarantee: partner-cert's analysts would receive a record of this owner."""
    anything = SubjectPattern(None, None, None, None)
    guarantee = Guarantee(
        f"agencies/{agency}/guarantees.yaml",
        3,
        agency,
        "closed",
        "why",
        anything,
        (),
        RecordPattern(None, None, None, None),
        frozenset({Effect.RELEASE}),
        frozenset(),
    )
    subject = SubjectClass(
        "partner-cert", ("analyst", "secret-role"), (("clearance", "red"),), "cyber-defence"
    )
    record = RecordSample("", "crash-reports", "t.v1", owner, Labels("amber"))
    example = Counterexample(subject, record, None, Decision(Effect.RELEASE), Breach("receive"))
    return GuaranteeOutcome(guarantee, 10, complete=False, counterexample=example)


@pytest.mark.parametrize(
    ("owner", "told"),
    [
        (
            "ems",
            "closed is broken: partner-cert for cyber-defence would receive t.v1 of ems on crash-reports "
            "(dataclassification amber)",
        ),
        ("highway-patrol", "closed is broken"),
    ],
)
def test_a_broken_guarantee_tells_its_agency_nothing_of_others(owner: str, told: str) -> None:
    outcome = guarantee_of("ems", owner)
    (finding,) = EMS.findings(check_of(_examined(outcome)))
    assert finding.what == told
    (whole,) = View().findings(check_of(_examined(outcome)))
    assert "secret-role" in whole.what
    assert owner in whole.what


def test_how_many_combinations_there_are_is_not_told() -> None:
    for checked in (10, 3_120):
        outcome = replace(guarantee_of("ems", "ems"), counterexample=None, checked=checked)
        (finding,) = EMS.findings(check_of(_examined(outcome)))
        assert finding.what == "closed was tried on some combinations, and there are more"


def _examined(outcome: GuaranteeOutcome) -> Examination:
    return Examination("", tuple(guarantee_findings([outcome], [])), guarantees=(outcome,))


def test_who_of_the_exchange_could_not_help_is_not_told() -> None:
    what = "nobody could change what is ems's: exchange-admin-7 may not propose it"
    check = refused([Finding("data/administrators/ems/data.yaml", None, what, "list another administrator")])
    (told,) = EMS.findings(check)
    assert told.what == "nobody could change what is ems's"
    assert list(View("transport").findings(check)) == [HIDDEN]
