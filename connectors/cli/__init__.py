"""What the command lines of the partner's side and of the exchange share: output, errors, and safe text."""
