"""The part of a page that lets its reader check it: checkpoints, and the commands that need no trust."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from broker.cli.audit.markup import Markup, facts, joined, tag, value


def checkpoint_facts(checkpoints: Mapping[str, bytes]) -> list[Markup]:
    """Each instance's newest signed checkpoint, as it is."""
    if not checkpoints:
        return [tag("p", "The ledger that was read holds no signed checkpoint of these entries yet.")]
    shown = [tag("pre", value(note.decode(errors="replace"))) for _, note in sorted(checkpoints.items())]
    return [tag("p", "The newest signed checkpoints of the ledger that was read:"), *shown]


def how_to_check(example: tuple[str, int] | None) -> list[Markup]:
    """Commands, each with what it shows."""
    steps: list[tuple[str, str]] = [
        (
            "The ledger as a whole",
            joined(
                _command("entente audit verify --ledger EXPORT --public-key ledger.vkey --after CHECKPOINT"),
                tag("br"),
                "CHECKPOINT is one that somebody else kept, a witness for example. Without it, and without a public key"
                " that you had from elsewhere, a ledger can only be found consistent in itself.",
            ),
        )
    ]
    if example is not None:
        entry = shlex.quote(
            f"{example[0]}/{example[1]}"
        )  # the ledger's words, in what may be copied to a shell
        steps.append(
            (
                "One entry, without the rest",
                joined(
                    _command(f"entente audit prove {entry} --ledger EXPORT --out proof.json"),
                    tag("br"),
                    _command("entente audit check proof.json --public-key ledger.vkey"),
                ),
            )
        )
    steps.append(
        (
            "By hand",
            "A leaf's hash is SHA-256 over a zero byte and the leaf's own bytes; hashes are joined in pairs, with a byte"
            " of value one before them, up to the root that the checkpoint's third line gives in base64 (RFC 6962,"
            " section 2.1). The checkpoint is a signed note of the C2SP form, signed with Ed25519.",
        )
    )
    return [tag("h2", "How to check it"), facts(steps)]


def _command(text: str) -> Markup:
    return tag("code", text)
