"""Runs a command line: every error becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from connectors.cli.failures import CommandFailed, ExitCode, complain


def example(command: str) -> str:
    """The last paragraph of a help text, kept on one line so that it can be copied."""
    return f"\b\nExample: {command}"


def run_program(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing but one line is ever shown of an error."""
    try:
        result = typer.main.get_command(app).main(
            args=list(arguments) or ["--help"], prog_name=name, standalone_mode=False
        )
        return result if isinstance(result, int) else ExitCode.DONE
    except CommandFailed as failed:
        complain(str(failed))
        return failed.code
    except typer.TyperException as error:
        complain(_usage(name, error))
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return ExitCode.DONE
    except Exception as error:  # noqa: BLE001 - the last resort: a line instead of a traceback
        complain(f"unexpected {type(error).__name__} at {origin(error)}; please report it")
        return ExitCode.FAILED


def discard_output() -> None:
    """Whoever read the output, `head` perhaps, has had enough: what is left in a buffer goes nowhere at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def origin(error: BaseException) -> str:
    """Where it was raised. Not its message, which may quote a record or a key."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _usage(name: str, error: typer.TyperException) -> str:
    """What is wrong with the arguments, and where it is explained."""
    context = getattr(error, "ctx", None)
    command = name if context is None else context.command_path
    # typer's own checks of choices come through pydantic, which puts this before them
    problem = error.format_message().replace("Value error, ", "")
    return f"{problem} (see '{command} --help')"
