"""What `policy/README.md` shows is right: its module, its agreement and its commands."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import yaml

from broker.core.rulebook.ownership import check_ownership
from tests.policy.engine import RULEBOOK, parse_module, run_opa

pytestmark = pytest.mark.opa

TEXT = (RULEBOOK / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found.group(1)


def test_the_module_is_one_that_may_be_loaded(opa_binary: Path) -> None:
    source = block("rego").encode()
    files = {"agencies/ems/module.rego": source}

    parse = partial(parse_module, opa_binary)
    assert check_ownership(files, parse, agencies={"ems"}, time_dependent=False) == []


def test_the_agreement_is_the_rulebook_s_own() -> None:
    (name, shown), *others = yaml.safe_load(block("yaml")).items()
    held = yaml.safe_load((RULEBOOK / "data/agreements/highway-patrol/data.yaml").read_text())[name]

    assert others == []
    assert held["treatments"].items() >= shown.pop("treatments").items()
    assert held.items() >= shown.items()


@pytest.mark.parametrize("command", re.findall(r"^opa .*$", TEXT, re.MULTILINE))
def test_the_commands_succeed(opa_binary: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RULEBOOK.parent)

    done = run_opa(opa_binary, *command.split()[1:])

    assert done.returncode == 0, done.stdout + done.stderr
