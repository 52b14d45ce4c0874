"""How the instances of one exchange agree: folds over the control log, and the protocol of a switch (docs/control.md)."""
