"""The commands as a person runs them, against a real exchange.

Processes of their own are those that read a pipe, are interrupted, or serve; the others run in the test's.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import broker.demo
from tests.e2e.here import Done, environment, run_here
from tests.services.broker import BrokerProcess

ENTENTE = Path(sys.executable).with_name("entente")
DATA = Path(broker.demo.__file__).parent / "data"
CHECKOUT = Path(broker.demo.__file__).parents[2]
PUBLISH_CRASH = (
    "publish",
    "crash-reports",
    str(DATA / "niem-crash-driver.json"),
    *("--context", "highway-patrol", "--type", "gov.niem.crash-driver.v1"),
)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs `entente` with the configuration of a served exchange."""

    broker: BrokerProcess

    @property
    def variables(self) -> dict[str, str]:
        """Only ENTENTE_CONFIG is set of the program's own."""
        return {"ENTENTE_CONFIG": str(self.broker.file), "COLUMNS": "200"}

    @property
    def environment(self) -> dict[str, str]:
        """Of a process."""
        return environment() | self.variables

    def run(self, *arguments: str, stdin: str | None = None, **variables: str) -> Done:
        """One command, to its end."""
        if stdin is None:
            return run_here(CHECKOUT, *arguments, **self.variables, **variables)
        return self.process(*arguments, stdin=stdin)

    def process(self, *arguments: str, stdin: str | None = None) -> Done:
        """The same as a process of its own."""
        ran = subprocess.run(
            [ENTENTE, *arguments],
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )
        return Done(ran.returncode, ran.stdout, ran.stderr)

    def lines(self, *arguments: str, stdin: str | None = None) -> list[Any]:
        """A command that succeeds; its output as JSON Lines."""
        ran = self.run(*arguments, stdin=stdin)
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that is left running."""
        return subprocess.Popen(
            [ENTENTE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """An exchange that holds the crash report and the vulnerabilities, published by the command line."""
    process = BrokerProcess(tmp_path_factory.mktemp("cli") / "exchange")
    process.start()
    shell = Shell(process)
    try:
        labels = ("--label", "dataclassification=amber", "--label", "purposes=emergency-response")
        assert shell.lines(*PUBLISH_CRASH, *labels)[0]["published"] == 1
        assert shell.lines(*kev("dataclassification=clear"))[0]["published"] == 1404
        yield shell
    finally:
        process.stop()


def kev(label: str) -> tuple[str, ...]:
    """Publishing the catalogue of exploited vulnerabilities."""
    return (
        *(
            "publish",
            "vulnerabilities",
            "--context",
            "cyber-centre",
            "--type",
            "gov.cisa.kev.v1",
            "--label",
            label,
        ),
        *(
            "--records",
            "$.vulnerabilities",
            "--id",
            "$.cveID",
            "--subject",
            "$.cveID",
            str(DATA / "cisa-kev.json"),
        ),
    )


def subscribe(context: str, topic: str, purpose: str, *more: str) -> tuple[str, ...]:
    """A subscription's command."""
    return ("subscribe", topic, "--context", context, "--purpose", purpose, *more)


EMS = ("ems", "crash-reports", "emergency-response")
PARTNER = ("partner-cert", "vulnerabilities", "cyber-defence")


def test_a_development_token_is_accepted(shell: Shell) -> None:
    claims = (
        "--agency",
        "ems",
        "--role",
        "paramedic",
        "--purpose",
        "emergency-response",
        "--clearance",
        "red",
    )
    token = shell.run("token", *claims, "--ttl", "1h").stdout.strip()
    ran = shell.run("whoami", ENTENTE_TOKEN=token)
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert (shown["agency"], shown["roles"], shown["attributes"]) == (
        "ems",
        ["paramedic"],
        {"clearance": "red"},
    )
    assert 3_500 < shown["expires_in_s"] <= 3_600
    assert [agreement["owner"] for agreement in shown["agreements"]] == ["highway-patrol"]


@pytest.mark.parametrize(
    "claims",
    [
        ("--role", "officer", "--purpose", "emergency-response"),
        ("--role", "paramedic", "--purpose", "law-enforcement"),
        ("--role", "paramedic", "--purpose", "emergency-response", "--ttl", "2h"),
    ],
)
def test_a_token_beyond_the_registration_is_refused(shell: Shell, claims: tuple[str, ...]) -> None:
    token = shell.run("token", "--agency", "ems", *claims).stdout.strip()
    ran = shell.run("whoami", ENTENTE_TOKEN=token)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert ran.stderr.count("\n") == 1
    assert "reference" in ran.stderr
    assert token not in ran.stderr


def test_two_tokens_are_a_usage_error(shell: Shell) -> None:
    assert shell.run("whoami", ENTENTE_TOKEN="a", ENTENTE_TOKEN_FILE="b").returncode == 2


def test_can_i_answers_and_exits_with_3_if_not(shell: Shell) -> None:
    wish = ("can-i", "subscribe", "crash-reports")
    assert shell.run(*wish, "--context", "ems", "--purpose", "emergency-response").returncode == 0
    assert shell.run(*wish, "--context", "partner-cert", "--purpose", "cyber-defence").returncode == 3
    assert shell.run("can-i", "publish", "crash-reports", "--context", "ems").returncode == 3
    unknown = shell.run(*wish, "--context", "ems", "--purpose", "curiosity")
    assert unknown.returncode == 3
    assert "emergency-response" in unknown.stderr
    assert "law-enforcement" in unknown.stderr  # the vocabulary


def test_the_catalog_shows_only_what_one_may_know(shell: Shell) -> None:
    def names(context: str, kind: str) -> list[str]:
        return [each["name"] for each in shell.lines("catalog", kind, "--context", context)]

    assert names("ems", "topics") == ["crash-reports"]
    assert names("partner-cert", "topics") == ["threat-intelligence", "vulnerabilities"]
    assert names("ems", "types") == ["gov.niem.crash-driver.v1"]
    assert names("ems", "agencies") == ["ems", "highway-patrol"]
    hidden = shell.run("catalog", "show", "vulnerabilities", "--context", "ems")
    missing = shell.run("catalog", "show", "nothing-at-all", "--context", "ems")
    assert hidden.returncode == missing.returncode == 3
    assert hidden.stderr.replace("vulnerabilities", "X") == missing.stderr.replace("nothing-at-all", "X")


def test_the_redacted_record_arrives_as_cloudevents_json(shell: Shell) -> None:
    (event,) = shell.lines(*subscribe(*EMS, "--max", "1"))
    assert (event["specversion"], event["type"]) == ("1.0", "gov.niem.crash-driver.v1")
    assert event["source"] == "//highway-patrol/cli"
    assert "j:Charge" not in event["data"]["exch:CrashDriverInfo"]
    assert event["disclosure"]["effect"] == "release"
    assert event["disclosure"]["obligations"] == ["delete-after-90-days"]


def test_max_and_resuming_from_a_cursor_give_everything_once(shell: Shell) -> None:
    first = shell.lines(*subscribe(*PARTNER, "--max", "700"))
    assert len(first) == 700
    rest = shell.lines(*subscribe(*PARTNER, "--from", first[-1]["cursor"], "--max", "704"))
    ids = [event["id"] for event in first + rest]
    assert len(ids) == len(set(ids)) == 1404


def test_every_printed_cursor_is_safe(shell: Shell) -> None:
    first = shell.lines(*subscribe(*PARTNER, "--max", "10"))
    ids = [event["id"] for event in first]
    for number, event in enumerate(first):
        again = shell.lines(*subscribe(*PARTNER, "--from", event["cursor"], "--max", "10"))
        assert set(ids[number + 1 :]) <= {each["id"] for each in again} | set(ids[: number + 1])
        assert event["cursor"] != again[0]["cursor"]


def test_a_cursor_of_somebody_else_is_refused(shell: Shell) -> None:
    (event,) = shell.lines(*subscribe(*EMS, "--max", "1"))
    other = ("transport", "crash-reports", "road-safety-statistics")
    ran = shell.run(*subscribe(*other, "--from", event["cursor"], "--max", "1"))
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "CURSOR_INVALID" in ran.stderr


def test_a_named_subscription_goes_on_where_it_stopped(shell: Shell) -> None:
    named = ("--subscription", "intake", "--max", "100")
    first = shell.lines(*subscribe(*PARTNER, *named))
    second = shell.lines(*subscribe(*PARTNER, *named))
    ids = [event["id"] for event in first + second]
    assert len(ids) == len(set(ids)) == 200
    as_partner = ("--context", "partner-cert")
    assert [each["name"] for each in shell.lines("subscription", "list", *as_partner)] == ["intake"]
    assert shell.lines("subscription", "list", "--context", "ems") == []
    assert shell.run("subscription", "show", "intake", "--context", "ems").returncode == 3
    shell.lines("subscription", "seek", "intake", "--to", "earliest", *as_partner)
    again = shell.lines(*subscribe(*PARTNER, *named))
    assert [event["id"] for event in again] == [event["id"] for event in first]
    shell.lines("subscription", "seek", "intake", "--to", "latest", *as_partner)
    assert shell.lines(*subscribe(*PARTNER, "--subscription", "intake", "--idle-timeout", "0.5")) == []
    assert shell.lines("subscription", "show", "intake", *as_partner)[0]["topic"] == "vulnerabilities"
    shell.lines("subscription", "delete", "intake", *as_partner)
    assert shell.run("subscription", "delete", "intake", *as_partner).returncode == 3


def test_a_hidden_topic_is_answered_like_a_missing_one(shell: Shell) -> None:
    hidden = shell.run(*subscribe("ems", "vulnerabilities", "emergency-response"))
    missing = shell.run(*subscribe("ems", "nothing-at-all-x", "emergency-response"))
    assert hidden.returncode == missing.returncode == 3

    def shape(text: str, topic: str) -> str:
        return text.replace(topic, "X").split(" (reference")[0]

    assert shape(hidden.stderr, "vulnerabilities") == shape(missing.stderr, "nothing-at-all-x")


EXAMPLES = (
    ("whoami",),
    ("can-i",),
    ("token",),
    ("publish",),
    ("subscribe",),
    *(("catalog", name) for name in ("topics", "types", "agencies", "vocabulary", "show")),
    *(("subscription", name) for name in ("list", "show", "seek", "delete")),
)


def test_the_examples_of_the_help_texts_run_as_printed(shell: Shell) -> None:
    # In this order: what `subscribe` makes is shown, moved and deleted.
    for command in EXAMPLES:
        last = shell.run(*command, "--help").stdout.rstrip().splitlines()[-1]
        program, *arguments = shlex.split(last.strip().removeprefix("Example: "))
        assert (program, *arguments[: len(command)]) == ("entente", *command)
        ran = shell.run(*arguments)
        assert ran.returncode == 0, (last, ran.stderr)


def test_publishing_again_gives_duplicates_and_other_content_is_refused(shell: Shell) -> None:
    again = shell.lines(*kev("dataclassification=clear"))[0]
    assert (again["published"], again["duplicates"]) == (0, 1404)
    ran = shell.run(*kev("dataclassification=green"))
    assert ran.returncode == 3
    assert json.loads(ran.stdout)["refused"] == 1404
    assert ran.stderr.count("ID_REUSED") == 1404


def test_a_part_with_faulty_labels_or_content_ends_in_6(shell: Shell) -> None:
    documents = '{"cveID": "E2E-1"}\n{"cveID": "E2E-2", "x": 1.0000000000000000001}\n'
    arguments = ("publish", "vulnerabilities", "--context", "cyber-centre", "--type", "gov.cisa.kev.v1")
    ran = shell.run(*arguments, "--label", "dataclassification=red", "--id", "$.cveID", "-", stdin=documents)
    assert ran.returncode == 6
    assert json.loads(ran.stdout) == {"published": 1, "duplicates": 0, "refused": 1, "unknown": 0}
    assert "1.0000" not in ran.stderr
    wrong = shell.run(*arguments, "--label", "dataclassification=GREEN", "-", stdin='{"cveID": "E2E-3"}')
    assert wrong.returncode == 3
    assert "LABEL_INVALID" in wrong.stderr
    forged = shell.run(
        *arguments,
        "--label",
        "dataclassification=clear",
        "--source",
        "//ems/x",
        "-",
        stdin='{"cveID": "E2E-4"}',
    )
    assert forged.returncode == 3
    assert "SOURCE_FORGED" in forged.stderr


def test_a_dry_run_shows_the_owner_each_partys_view(shell: Shell) -> None:
    dry_run = (*PUBLISH_CRASH, "--label", "dataclassification=amber", "--dry-run")
    (outlook,) = shell.lines(*dry_run)
    parties = {party["agency"]: party for party in outlook["parties"]}
    assert {name: party["effect"] for name, party in parties.items()} == {
        "cyber-centre": "notice",
        "ems": "release",
        "transport": "release",
    }
    assert parties["cyber-centre"]["record"] is None
    # A rule for one role must not hide what another would see.
    by_role = {
        role: party for party in outlook["parties"] if party["agency"] == "ems" for role in party["roles"]
    }
    assert {role: (len(party["removed"]), bool(party["changed"])) for role, party in by_role.items()} == {
        "agency-admin": (8, False),
        "paramedic": (8, False),
        "volunteer": (8, True),
    }
    assert "A1234567" not in json.dumps(parties["transport"])
    table = shell.run(*dry_run, "-o", "table")
    assert "no-reidentification" in table.stdout


def test_head_may_leave_early(shell: Shell) -> None:
    command = subprocess.list2cmdline([str(ENTENTE), *subscribe(*PARTNER, "--idle-timeout", "20")])
    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        check=False,
        capture_output=True,
        text=True,
        env=shell.environment,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout.splitlines()) == 1


def test_ctrl_c_ends_in_130_without_a_traceback(shell: Shell) -> None:
    with shell.start(*subscribe(*EMS)) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("{")
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, "")


def test_ctrl_c_ends_a_publication_that_waits_for_its_pipe(shell: Shell) -> None:
    arguments = ("publish", "vulnerabilities", "--context", "cyber-centre", "--type", "gov.cisa.kev.v1")
    labels = ("--label", "dataclassification=red", "--source", "//cyber-centre/pipe", "--id", "$.cveID", "-")
    running = subprocess.Popen(
        [ENTENTE, *arguments, *labels],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=shell.environment,
    )
    assert running.stdin is not None
    with running:
        # More than fits into the pipe: once it is written, the command is reading.
        for number in range(4_000):
            running.stdin.write(json.dumps({"cveID": f"PIPE-{number}", "text": "x" * 100}) + "\n")
        running.stdin.flush()
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 130  # although the pipe is still open
        assert running.stdout is not None
        counts = json.loads(running.stdout.read())
        assert running.stderr is not None
        assert running.stderr.read() == ""
    assert counts["refused"] == 0
    held = shell.lines(*subscribe("cyber-centre", "vulnerabilities", "cyber-defence", "--idle-timeout", "2"))
    stored = sum(each["source"] == "//cyber-centre/pipe" for each in held)
    assert counts["published"] <= stored <= counts["published"] + counts["unknown"]


def test_a_subscriber_goes_on_after_the_broker_was_killed(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "exchange")
    process.start()
    shell = Shell(process)
    publish = ("publish", "vulnerabilities", "--context", "cyber-centre", "--type", "gov.cisa.kev.v1", "-")
    label = ("--label", "dataclassification=clear", "--id", "$.cveID")
    try:
        shell.lines(*publish, *label, stdin='{"cveID": "A"}')
        with shell.start(*subscribe(*PARTNER, "--subscription", "s", "--max", "2")) as running:
            assert running.stdout is not None
            assert json.loads(running.stdout.readline())["id"] == "A"
            process.kill()
            process.start()
            shell.lines(*publish, *label, stdin='{"cveID": "B"}')
            rest, errors = running.communicate(timeout=60)
        assert (running.returncode, errors) == (0, "")
        # At least once: A comes again if its acknowledgement was under way when the broker was killed.
        assert [json.loads(line)["id"] for line in rest.splitlines()] in (["B"], ["A"])
    finally:
        process.stop()


def test_without_a_broker_commands_end_in_5(tmp_path: Path) -> None:
    shell = Shell(BrokerProcess(tmp_path / "exchange"))
    begun = time.monotonic()
    ran = shell.process("whoami", "--context", "ems")
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (5, "", 1)
    assert time.monotonic() - begun < 30


def test_serve_tells_a_faulty_configuration_in_one_line(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "exchange")
    process.change({"nonsense": {"a": 1}})
    ran = Shell(process).process("serve")
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert "nonsense" in ran.stderr


def test_serve_tells_each_finding_of_a_rulebook_on_its_line(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "exchange")
    rulebook = process.file.parent / "rulebook"
    (rulebook / "data" / "note.txt").write_text("a note")
    (rulebook / "keys" / "ems.jwks.txt").write_text("{}")
    ran = Shell(process).process("serve")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines() == [
        "entente: the rulebook was refused: data/note.txt: does not belong under data/, which holds only data.yaml;"
        " move or rename it",
        "entente: the rulebook was refused: keys/ems.jwks.txt: does not belong under keys/, which holds only"
        " *.jwks.json; move or rename it",
    ]


def test_serve_tells_that_its_address_is_taken(shell: Shell) -> None:
    ran = shell.process("serve")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Traceback" not in ran.stderr
