"""Becomes the OPA server of one broker: run as a script by `child.py`, in an interpreter of its own.

Binds OPA's life to the broker's before OPA starts: the kernel kills it when the broker is gone, however that came about.
A `preexec_fn` could do the same, but is unsafe in a process with threads, which a broker with gRPC is.
Usage: launch.py PARENT_PID DATA_LIMIT_BYTES GARBAGE_PERCENT OPA ARGUMENT...
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2); it survives execve of an ordinary program


def main(parent: int, data_limit_bytes: int, garbage_percent: int, command: list[str]) -> None:
    """Replace this process with `command`, bound to `parent`; never returns."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise SystemExit("prctl(PR_SET_PDEATHSIG) failed; the policy engine needs Linux")
    if os.getppid() != parent:
        raise SystemExit("the broker was gone before its policy engine started")
    resource.setrlimit(resource.RLIMIT_DATA, (data_limit_bytes, data_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Go's collector works harder before the limit is met. Nothing else is in OPA's environment, whatever Python set.
    environment = {"GOMEMLIMIT": str(data_limit_bytes * 7 // 8), "GOGC": str(garbage_percent)}
    os.execve(command[0], command, environment)  # noqa: S606 -- no shell on purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
