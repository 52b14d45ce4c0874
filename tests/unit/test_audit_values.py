"""What auditors give and read on the command line: times, entries, parts, treatments in words, the ledger's options."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from broker.adapters.export.writer import ExportRefused
from broker.adapters.keyring import KeysRefused
from broker.app.ledger_sources import LedgerNotFound, LedgerSource
from broker.cli.audit.checkpoint import append
from broker.cli.audit.options import LedgerGiven, Mechanism, SecurityProtocol, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.prove import EntryName, parse_entry, part_of
from broker.cli.audit.running import read_file, run, write_private
from broker.cli.audit.times import format_ms, parse_since, parse_until, parse_zone, readable
from broker.cli.audit.trusting import read_notes, read_public_keys
from broker.cli.audit.words import labels_in_words, treatments_in_words
from broker.cli.settings import Given
from broker.core.audit.proofs import ProofRefused, ReceiverPart, RecordPart
from broker.core.audit.replay import EngineLost
from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.checkpoint.note import Signer
from broker.errors import LedgerRefused, StorageUnavailable
from broker.model.audit import Progress
from connectors.cli.failures import CommandFailed, ExitCode

DAY_MS = 86_400_000
NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", NEW_YEAR_MS),
        ("2026-01-01t01:00:00+01:00", NEW_YEAR_MS),
        ("2025-12-31T18:30:00-05:30", NEW_YEAR_MS),
        ("2026-01-01T00:00:00.123456789z", NEW_YEAR_MS + 123),
        ("2026-01-01", NEW_YEAR_MS),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_times_come_with_any_offset(text: str, expected: int) -> None:
    assert parse_since(text, "--since") == expected


def test_a_date_is_a_whole_day_in_its_zone() -> None:
    assert parse_until("2026-01-01", "--until") == NEW_YEAR_MS + DAY_MS - 1
    assert parse_until("2026-01-01T12:00:00Z", "--until") == NEW_YEAR_MS + DAY_MS // 2
    assert parse_since("2026-01-01", "--since", zone_minutes=60) == NEW_YEAR_MS - 3_600_000
    assert parse_until("2026-01-01", "--until", zone_minutes=-60) == NEW_YEAR_MS + 3_600_000 + DAY_MS - 1
    assert parse_since(None, "--since") is None and parse_until(None, "--until") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-13-01", "2026-02-30"),
        *("2026-01-01T25:00:00Z", "0001-01-01T00:00:00+23:59x", "2026-01-01T00:00:00+24:00", "20260101"),
    ],
)
def test_other_times_are_refused_by_their_option(text: str) -> None:
    for parse in (parse_since, parse_until):
        with pytest.raises(CommandFailed, match=r"--until is an RFC 3339 time") as refused:
            parse(text, "--until")
        assert refused.value.code == ExitCode.USAGE


def test_output_is_in_utc() -> None:
    assert format_ms(NEW_YEAR_MS + 7) == "2026-01-01T00:00:00.007Z"
    assert readable(NEW_YEAR_MS + 7) == "2026-01-01 00:00:00 UTC"
    assert format_ms(10**18) == readable(10**18) == f"{10**18} ms"
    assert format_ms(-(10**18)) == f"-{10**18} ms"


@pytest.mark.parametrize(
    ("text", "minutes"), [(None, 0), ("Z", 0), ("+00:00", 0), ("+02:00", 120), ("-05:30", -330)]
)
def test_zones_are_offsets(text: str | None, minutes: int) -> None:
    assert parse_zone(text, "--zone") == minutes


@pytest.mark.parametrize("text", ["", "2", "+2:00", "+24:00", "+00:60", "Europe/Berlin"])
def test_other_zones_are_refused(text: str) -> None:
    with pytest.raises(CommandFailed, match="--zone"):
        parse_zone(text, "--zone")


def test_entries_are_named_by_instance_and_index() -> None:
    assert parse_entry("broker/12") == EntryName("broker", 12)
    assert parse_entry("0") == EntryName(None, 0)
    for text in ("", "broker", "broker/", "broker/-1", "broker/01", "Broker/1", "a/b/1", "broker/1 ", "/1"):
        with pytest.raises(CommandFailed, match="INSTANCE/INDEX"):
            parse_entry(text)


def test_parts_are_chosen_by_one_set_of_options() -> None:
    assert part_of(None, None, None, None, None) is None
    assert part_of("medic-7", None, None, None, None) == ReceiverPart("medic-7", "")
    assert part_of("medic-7", "intake", "ab", None, None) == ReceiverPart("medic-7", "intake", "ab")
    assert part_of(None, None, None, "//ems/x", "7") == RecordPart("//ems/x", "7")
    for given in (
        (None, "intake", None, None, None),
        (None, None, "ab", None, None),
        (None, None, None, "//ems/x", None),
        (None, None, None, None, "7"),
        ("medic-7", None, None, "//ems/x", "7"),
    ):
        with pytest.raises(CommandFailed) as refused:
            part_of(*given)
        assert refused.value.code == ExitCode.USAGE


def test_treatments_are_told_in_words_and_what_is_not_mentioned_was_removed() -> None:
    decision = {"input": {"record": {"markings": ["criminal", "medical", "pii", "unreviewed"]}}}
    treatments = {
        "medical": {"kind": "keep"},
        "pii": {"kind": "mask", "keep_first": 1, "keep_last": 2},
        "identifier": {"kind": "pseudonym"},
        "operational": {"kind": "mask", "keep_first": 0, "keep_last": 0},
    }
    assert treatments_in_words(treatments, decision) == [  # type: ignore[arg-type]
        ("in full", "medical"),
        ("masked", "operational"),
        ("masked (except the first 1 and the last 2 characters)", "pii"),
        ("replaced by a pseudonym", "identifier"),
        ("removed", "criminal, unreviewed"),
    ]
    assert treatments_in_words({"pii": "?", "x": {"kind": "new"}}, {}) == [("removed", "pii, x")]


def test_labels_are_told_without_those_that_a_record_does_not_carry() -> None:
    labels = {"purposes": ["a", "b"], "dataclassification": "amber", "datacategory": "", "dataregulation": []}
    assert labels_in_words(labels) == "dataclassification: amber; purposes: a, b"  # type: ignore[arg-type]
    assert labels_in_words({}) == "none"


# ---- the ledger's options ----


def test_a_directory_or_a_file_in_it_is_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    given = LedgerGiven(ledger=str(tmp_path), revisions=Path("r"), index=Path("i"))
    expected = LedgerSource(directory=tmp_path, rulebooks=Path("r"), index=Path("i"))
    assert source_of(Given(), given) == expected
    assert source_of(Given(), LedgerGiven(ledger=str(tmp_path / "ledger.db"))).directory == tmp_path


@pytest.mark.parametrize("named", [None, "absent", "absent:", "a:b", "host:99999", "h:1,,h:2"])
def test_what_is_no_ledger_is_refused(
    named: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match="--ledger") as refused:
        source_of(Given(), LedgerGiven(ledger=named))
    assert refused.value.code == ExitCode.USAGE


def test_kafka_is_reached_by_options_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ca.pem", "password"):
        (tmp_path / name).touch(mode=0o600)
    given = LedgerGiven(
        ledger="kafka-1:9093,kafka-2:9093",
        kafka_prefix="north.",
        kafka_protocol=SecurityProtocol.SASL_SSL,
        kafka_ca_file=Path("ca.pem"),
        kafka_sasl_mechanism=Mechanism.SCRAM_SHA_512,
        kafka_sasl_username="auditor",
        kafka_sasl_password_file=Path("password"),
    )
    kafka = source_of(Given(), given).kafka
    assert kafka is not None
    assert (kafka.bootstrap, kafka.prefix) == (["kafka-1:9093", "kafka-2:9093"], "north.")
    assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (kafka.ca_file, kafka.sasl_password_file) == (tmp_path / "ca.pem", tmp_path / "password")


SECTION = """
[ledger_reader]
bootstrap = ["kafka-1:9093"]
prefix = "north."
ca_file = "ca.pem"
"""


def test_options_beat_the_section_of_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "auditor.toml").write_text(SECTION)
    config = Given(config=tmp_path / "auditor.toml")
    configured = source_of(config, LedgerGiven(ledger="kafka")).kafka
    assert configured is not None
    assert (configured.bootstrap, configured.prefix) == (["kafka-1:9093"], "north.")
    assert configured.ca_file == tmp_path / "ca.pem"
    changed = source_of(config, LedgerGiven(ledger="other:1", kafka_prefix="south.")).kafka
    assert changed is not None
    assert (changed.bootstrap, changed.prefix, changed.ca_file) == (
        ["other:1"],
        "south.",
        tmp_path / "ca.pem",
    )


def test_plaintext_needs_its_insecure_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match="insecure_plaintext"):
        source_of(Given(), LedgerGiven(ledger="h:1", kafka_protocol=SecurityProtocol.PLAINTEXT))
    plain = LedgerGiven(ledger="h:1", kafka_protocol=SecurityProtocol.PLAINTEXT, insecure_plaintext=True)
    assert source_of(Given(), plain).kafka is not None


def test_kafka_by_name_needs_the_section(tmp_path: Path) -> None:
    (tmp_path / "auditor.toml").write_text("")
    with pytest.raises(CommandFailed, match="ledger_reader: section is missing"):
        source_of(Given(config=tmp_path / "auditor.toml"), LedgerGiven(ledger="kafka"))
    with pytest.raises(CommandFailed, match="no such file"):
        source_of(Given(config=tmp_path / "absent.toml"), LedgerGiven(ledger="kafka"))


# ---- what is trusted ----

SIGNER = Signer("exchange/broker", bytes(range(32)))
NOTES = [
    sign_checkpoint(Checkpoint("exchange/broker", size, bytes([size]) * 32), [SIGNER]) for size in (1, 2)
]


def test_keys_are_read_from_all_files(tmp_path: Path) -> None:
    other = Signer("exchange", bytes(32))
    (tmp_path / "a").write_text(f"{SIGNER.verifier_key.text()}\n")
    (tmp_path / "b").write_text(f"{other.verifier_key.text()}\n\n")
    keys = read_public_keys([tmp_path / "a", tmp_path / "b"], "--public-key")
    assert keys == (SIGNER.verifier_key, other.verifier_key)


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\xfe", b"exchange+00000000+AA=="])
def test_a_file_without_keys_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(CommandFailed, match=r"--public-key: .*key: ") as refused:
        read_public_keys([tmp_path / "key"], "--public-key")
    assert refused.value.code == ExitCode.USAGE


def test_a_checkpoint_is_a_note_or_a_witness_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note").write_bytes(NOTES[0])
    lines = [json.dumps({"origin": "exchange/broker", "note": note.decode()}).encode() for note in NOTES]
    (tmp_path / "witness").write_bytes(b"\n".join(lines) + b'\n{"origin": "exch')
    assert read_notes([tmp_path / "note", tmp_path / "witness"], "--after") == (NOTES[0], *NOTES)
    assert "1 of 3 lines are unfinished and do not count" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"note": 7}\n', b'{"note": "x"}\n', b"[]", NOTES[0][:-1], b"\xff"]
)
def test_other_files_are_no_checkpoints(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "note").write_bytes(content)
    with pytest.raises(CommandFailed, match="--after") as refused:
        read_notes([tmp_path / "note"], "--after")
    assert refused.value.code == ExitCode.USAGE
    with pytest.raises(CommandFailed, match="--after"):
        read_notes([tmp_path / "absent"], "--after")


# ---- running ----


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (LedgerNotFound("no ledger there"), ExitCode.USAGE, "no ledger there"),
        (KeysRefused("receipt.keys: absent"), ExitCode.USAGE, "receipt.keys: absent"),
        (LedgerRefused(("first", "second")), ExitCode.FAULTS_FOUND, "second"),
        (ExportRefused("out: is not empty"), ExitCode.REFUSED, "out: is not empty"),
        (ProofRefused("no such part"), ExitCode.REFUSED, "no such part"),
        (LookupError("no entry 7"), ExitCode.REFUSED, "no entry 7"),
        (EngineLost("opa stopped answering"), ExitCode.FAILED, "opa stopped answering"),
        (StorageUnavailable("ledger.db is damaged"), ExitCode.UNAVAILABLE, "ledger.db is damaged"),
        (
            FileNotFoundError(2, "No such file or directory", "x"),
            ExitCode.FAILED,
            "x: No such file or directory",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ends_an_audit_is_one_line_and_a_code(
    error: Exception, code: ExitCode, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(CommandFailed) as failed:
        run(work())
    assert (failed.value.code, str(failed.value)) == (code, told)
    assert capsys.readouterr().err == ("entente: first\n" if isinstance(error, LedgerRefused) else "")


@pytest.mark.parametrize("error", [KeyError("x"), IndexError("x"), BrokenPipeError(), RuntimeError("x")])
def test_what_is_a_fault_of_the_program_is_not_hidden(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        run(work())


def test_files_are_written_whole_and_private(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("older")
    write_private(target, b"newer")
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"newer", 0o600)
    assert list(tmp_path.iterdir()) == [target]
    for impossible in (tmp_path / "absent" / "page.html", tmp_path):
        with pytest.raises(CommandFailed, match="choose another place"):
            write_private(impossible, b"")
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_are_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "proof").write_bytes(b"12345")
    assert read_file(tmp_path / "proof", "FILE", 5) == b"12345"
    with pytest.raises(CommandFailed, match="larger than 4 bytes"):
        read_file(tmp_path / "proof", "FILE", 4)


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown_progress() as progress:
        assert progress is None
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with shown_progress() as progress:
        assert progress is not None
        for done in (0, 5, 10):
            progress(Progress("reading broker", done, 10))
        progress(Progress("checking", 3))
    assert "reading broker" in terminal.getvalue() and "10/10" in terminal.getvalue()


class Terminal(io.StringIO):
    """What says that it is one."""

    def isatty(self) -> bool:
        return True


def test_checkpoints_are_appended_as_a_witness_keeps_them(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    first, second = ({"origin": "o", "size": n, "note": note.decode()} for n, note in enumerate(NOTES))
    append(kept, [first])
    append(kept, [second])
    assert read_notes([kept], "--after") == tuple(NOTES)
    kept.write_bytes(kept.read_bytes() + b'{"origin": "unfini')
    append(kept, [first])
    assert read_notes([kept], "--after") == (*NOTES, NOTES[0])
    with pytest.raises(CommandFailed, match="choose another place"):
        append(tmp_path, [first])
