"""The pages of the documentation as things that can be run.

What a page shows in a ```console block is a session in a shell, in the order of the page:

* a line that begins with `$ ` is a command; it goes on where a line ends with a backslash;
* a command that ends with ` &` runs until the page's end, and the next one waits for the output that is shown, which
  leaves out what is only information in its log;
* what follows is its output, standard error included; `...` on a line of its own stands for any lines, `…` for anything
  within a line. A command that fails must be followed by `$ echo $?`;
* `kill %1` ends the first command in the background by SIGTERM, `%2` the second; it must then exit with 0.

A block that follows `<!-- file: NAME -->` is written to NAME before any command runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KILL = re.compile(r"kill %([1-9])")
_SHOWN = ("127.0.0.1:7443", "127.0.0.1:7444", "127.0.0.1:7447")
"""The addresses of `entente init` and `entente witness init`, which the pages show."""

_INFORMATION = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO ")

_DONE = "----done----"
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """One command and the output that the page shows, as lines."""

    command: str
    output: tuple[str, ...]

    @property
    def in_background(self) -> bool:
        """Whether it runs until the page's end."""
        return self.command.endswith(" &")


def steps(text: str) -> list[Step]:
    """The commands of a page's console blocks, in order."""
    found: list[Step] = []
    for block in _CONSOLE.findall(text):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = piece.splitlines()
            count = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\"))
            found.append(Step("\n".join(lines[:count]), tuple(lines[count:])))
    return found


def files(text: str) -> Mapping[str, str]:
    """What a page writes into files, by name."""
    return dict(_FILE.findall(text))


def matches(shown: tuple[str, ...], output: str) -> bool:
    """Whether a command printed what the page shows."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n"
    ended = output if not output or output.endswith("\n") else output + "\n"
    return re.fullmatch(pattern, ended) is not None


def moved(text: str, port: int) -> str:
    """The text with the addresses that the pages show replaced by ones on free ports."""
    for number, address in enumerate(_SHOWN):
        text = text.replace(address, f"127.0.0.1:{port + number}")
    return text


class Shell:
    """One bash in a directory of its own, which has the checkout's folders by their names."""

    def __init__(self, directory: Path) -> None:
        for name in (".venv", ".tools", "benchmarks", "broker", "docs", "policy"):
            (directory / name).symlink_to(ROOT / name)
        path = f"{ROOT / '.venv/bin'}:{os.environ.get('PATH', os.defpath)}"
        self._directory = directory
        self._environment = {
            "PATH": path,
            "HOME": str(directory),
            "COLUMNS": "100",
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
        }
        self._background: list[subprocess.Popen[str]] = []
        self._bash = self._start(["bash", "--noprofile", "--norc"])

    def run(self, step: Step) -> str:
        """What the command prints; of one in the background, the first lines, as many as are shown."""
        if step.in_background:
            process = self._start(["bash", "-c", f"exec {step.command.removesuffix(' &')}"])
            self._background.append(process)
            return "".join(self._line_of_output(process) for _ in step.output)
        if job := _KILL.fullmatch(step.command):
            return self._stop(self._background.pop(int(job[1]) - 1))
        assert self._bash.stdin is not None
        # The status is handed on, so that `echo $?` shows it; then `:` keeps it from being a failure of ours.
        self._bash.stdin.write(
            f"{step.command}\n__status=$?; echo; echo {_DONE} $__status; (exit $__status)\n"
        )
        self._bash.stdin.flush()
        return self._until_done(step)

    def close(self) -> None:
        """End bash, and whatever runs in the background, by SIGTERM."""
        for process in (*self._background, self._bash):
            process.terminate()
        for process in (*self._background, self._bash):
            process.communicate(timeout=_TIMEOUT_S)

    def _stop(self, process: subprocess.Popen[str]) -> str:
        process.terminate()
        output, _ = process.communicate(timeout=_TIMEOUT_S)
        assert process.returncode == 0, output
        self.status = 0
        return output

    def _until_done(self, step: Step) -> str:
        lines: list[str] = []
        while not (line := self._line(self._bash)).startswith(_DONE):
            assert line, f"the shell ended at: {step.command}"
            lines.append(line)
        self.status = int(line.split()[1])
        # The blank line before the mark is ours; it ends a last line that has no end.
        return "".join(lines).removesuffix("\n")

    def _line_of_output(self, process: subprocess.Popen[str]) -> str:
        while _INFORMATION.match(line := self._line(process)):
            pass
        return line

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        watchdog = threading.Timer(_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            return process.stdout.readline()
        finally:
            watchdog.cancel()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def shell(directory: Path) -> Iterator[Shell]:
    """A shell that is ended with the block."""
    opened = Shell(directory)
    try:
        yield opened
    finally:
        opened.close()
