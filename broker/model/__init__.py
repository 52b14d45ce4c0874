"""Values of the domain: immutable, without I/O, imported by every other layer."""
