"""`entente rulebook activate`: an approved proposal comes into force everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.cli.command import call, shared_options
from broker.cli.rulebook.approve import ProposalId
from broker.cli.settings import Given
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line
from connectors.cli.text import one_line

if TYPE_CHECKING:
    from protos.entente.v1 import rulebook_pb2 as pb


@shared_options
def activate(given: Given, proposal: ProposalId) -> None:
    """Put an approved proposal in force on every instance of the exchange.

    When this returns, nothing can be released under an earlier revision any more. If an instance cannot prepare it, nothing
    changes, and the error says which and why.
    """
    done = call(given, lambda client: client.rulebook.activate(proposal))
    form = choose_format(given.output)
    if form is not OutputFormat.TABLE:
        show_one(form, {"revision": done.revision, "took_ms": done.took_ms, "fenced": list(done.fenced)})
        return
    write_line(_line(done))


def _line(done: pb.Activation) -> str:
    fenced = f"; did not answer and were shut out: {', '.join(done.fenced)}" if done.fenced else ""
    return one_line(f"in force everywhere after {done.took_ms} ms: {done.revision}{fenced}")
