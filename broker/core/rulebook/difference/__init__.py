"""What is different between two rulebooks, in the words of the rulebook instead of lines of files."""

from broker.core.rulebook.difference.compare import compare
from broker.core.rulebook.difference.model import Change, Detail, How

__all__ = ["Change", "Detail", "How", "compare"]
