"""What the core needs from outside, one port a module; every adapter passes the port's contract suite."""
