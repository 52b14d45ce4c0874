"""The container files, read strictly: no engine builds them here, so what can be known without one is checked."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.services.opa import PINNED_MINOR
from tests.services.wheel import packaged_folders

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "compose.yaml"
KNOWN = {
    "COPY",
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
}
PINNED = re.compile(r"^[a-z0-9./-]+:\d+\.\d+\.\d+(-[a-z]+)*$")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, continuation lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def parse_dockerfile(text: str) -> list[list[Instruction]]:
    """The instructions of each stage; raises ValueError for an unknown instruction or one before FROM."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    stages: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"not an instruction that this project uses: {name}")
        if name == "FROM":
            stages.append([])
        if not stages:
            raise ValueError(f"{name} before FROM")
        stages[-1].append(Instruction(name, rest.strip()))
    return stages


@pytest.fixture(scope="module")
def stages() -> list[list[Instruction]]:
    return parse_dockerfile(DOCKERFILE.read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(COMPOSE.read_text())
    services: dict[str, dict[str, Any]] = document["services"]
    return services


def _of(stage: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in stage if instruction.name == name]


def _is_sent_to_the_engine(path: str) -> bool:
    """Whether .dockerignore, which begins with `*`, lets `path` through."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    return any(path == entry or path.startswith(f"{entry}/") for entry in allowed)


def test_an_unknown_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="ADD"):
        parse_dockerfile("FROM a:1.2.3\nADD https://example.org/x /x\n")
    with pytest.raises(ValueError, match="before FROM"):
        parse_dockerfile("USER 1\nFROM a:1.2.3\n")


def test_every_base_is_pinned_to_a_patch_version(stages: list[list[Instruction]]) -> None:
    assert len(stages) == 3
    for stage in stages:
        image = _of(stage, "FROM")[0].words[0]
        assert PINNED.match(image), image


def test_the_final_stage_runs_as_an_unprivileged_user(stages: list[list[Instruction]]) -> None:
    final = stages[-1]
    user = _of(final, "USER")[-1].words[0]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), user
    after = final[final.index(_of(final, "USER")[-1]) :]
    assert not {"RUN", "COPY"} & {instruction.name for instruction in after}


def test_the_final_stage_holds_opa_and_no_compiler(stages: list[list[Instruction]]) -> None:
    final = stages[-1]
    assert any(
        "--from=opa" in copy.words and "/opt/entente/bin/opa" in copy.words for copy in _of(final, "COPY")
    )
    assert not any("pip" in run.text or "apt-get" in run.text for run in _of(final, "RUN"))


def test_what_is_copied_exists_and_is_sent_to_the_engine(stages: list[list[Instruction]]) -> None:
    built = {_of(stage, "FROM")[0].words[-1] for stage in stages[:-1]}
    for copy in (copy for stage in stages for copy in _of(stage, "COPY")):
        options = [word for word in copy.words if word.startswith("--")]
        *sources, _ = (word for word in copy.words if not word.startswith("--"))
        if options:
            assert options[0].removeprefix("--from=") in built
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert _is_sent_to_the_engine(source), source


def test_every_package_of_the_wheel_is_copied(stages: list[list[Instruction]]) -> None:
    copied = {word for copy in _of(stages[1], "COPY") for word in copy.words}
    assert packaged_folders() <= copied


def test_programs_are_started_without_a_shell(stages: list[list[Instruction]]) -> None:
    final = stages[-1]
    for name in ("ENTRYPOINT", "CMD"):
        assert _of(final, name)[-1].text.startswith("["), name
    assert 'CMD ["' in _of(final, "HEALTHCHECK")[-1].text
    assert _of(final, "STOPSIGNAL")[-1].words == ["SIGTERM"]


def test_the_go_image_is_new_enough_for_the_tools_module(stages: list[list[Instruction]]) -> None:
    needed = re.search(r"^go (\d+)\.(\d+)", (ROOT / "deploy/tools/opa/go.mod").read_text(), re.MULTILINE)
    image = re.match(r"golang:(\d+)\.(\d+)\.", _of(stages[0], "FROM")[0].words[0])
    assert needed and image
    assert tuple(map(int, image.groups())) >= tuple(map(int, needed.groups()))


def test_opa_is_one_version_everywhere() -> None:
    module = (ROOT / "deploy/tools/opa/go.mod").read_text()
    script = (ROOT / "deploy/tools/build.sh").read_text()
    assert f"open-policy-agent/opa v{PINNED_MINOR}." in module
    assert f"opa_minor={PINNED_MINOR}\n" in script


def test_kafka_is_one_version_everywhere(services: dict[str, dict[str, Any]]) -> None:
    pom = ElementTree.parse(ROOT / "deploy/kafka/pom.xml")
    version = pom.findtext(".//{*}kafka.version")
    assert services["kafka"]["image"] == f"apache/kafka:{version}"


@pytest.mark.parametrize("name", ["kafka", "init", "broker"])
def test_no_service_has_privileges(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert "user" not in service or not str(service["user"]).startswith(("0", "root"))


def test_the_brokers_file_system_is_read_only(services: dict[str, dict[str, Any]]) -> None:
    for name in ("init", "broker"):
        assert services[name]["read_only"] is True
        assert services[name]["volumes"] == ["exchange:/var/lib/entente"]


def test_ports_are_published_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any("9092" in port for port in published)


def test_kafka_without_tls_listens_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    listeners = services["kafka"]["environment"]["KAFKA_LISTENERS"].split(",")
    assert [listener.split("://")[1].rsplit(":", 1)[0] for listener in listeners] == [
        "127.0.0.1",
        "127.0.0.1",
    ]
    assert services["broker"]["network_mode"] == "service:kafka"


def test_the_broker_waits_for_what_it_needs(services: dict[str, dict[str, Any]]) -> None:
    needs = {name: need["condition"] for name, need in services["broker"]["depends_on"].items()}
    assert needs == {"kafka": "service_healthy", "init": "service_completed_successfully"}
    for name in ("kafka", "broker"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_every_volume_is_declared(services: dict[str, dict[str, Any]]) -> None:
    declared = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert used == declared
