"""The limits of a builder that runs here: the kernel holds those of memory and of processor time.

They are set by a Python of our own that becomes the builder: between fork and exec nothing can be done that is safe
beside other threads.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from bridge.stages.policy import Policy

__all__ = ["exceeded", "limited"]

_START = """
import json, os, resource, signal, sys
limits, builder, *command = sys.argv[1:]
limits = json.loads(limits)
def lower(kind, soft, hard):
    most = resource.getrlimit(kind)[1]
    most = hard if most == resource.RLIM_INFINITY else most
    resource.setrlimit(kind, (min(soft, most), min(hard, most)))
if "cpu_time" in limits:
    lower(resource.RLIMIT_CPU, limits["cpu_time"], limits["cpu_time"] + 5)
if "memory" in limits:
    lower(resource.RLIMIT_DATA, limits["memory"], limits["memory"])
# What Python itself has changed.
for name in ("SIGPIPE", "SIGXFSZ"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
os.environ.pop("LC_CTYPE", None)
if limits["LC_CTYPE"] is not None:
    os.environ["LC_CTYPE"] = limits["LC_CTYPE"]
try:
    os.execv(builder, command)
except OSError as error:
    sys.exit(f"{builder} can not be run: {error.strerror}")
"""
_NO_MEMORY = ("memoryerror", "cannot allocate memory", "out of memory", "memory exhausted", "bad_alloc")
"""How programs say that they were given none, in lower case."""


def limited(builder: str, command: Sequence[str], environ: Mapping[str, str], policy: Policy) -> tuple[str, list[str]]:
    """The program to start and its arguments, so that a builder runs within the limits of its stage.

    Parameters
    ----------
    command
        The builder's arguments, from argv[0] on.
    environ
        The variables that it gets.
    """
    limits: dict[str, int] = {}
    if policy.cpu_time is not None:
        limits["cpu_time"] = math.ceil(policy.cpu_time)
    if policy.memory_bytes is not None:
        # What is written to, as for Python stages.
        limits["memory"] = policy.memory_bytes
    if not limits:
        return builder, list(command)
    said = json.dumps({**limits, "LC_CTYPE": environ.get("LC_CTYPE")})
    return sys.executable, [os.path.basename(sys.executable), "-ISc", _START, said, builder, *command]


def exceeded(policy: Policy, status: int, timed_out: bool, log_tail: Sequence[str]) -> tuple[str, str] | None:
    """Which limit a builder that failed has met, as the end of a sentence and as a word for records.

    Parameters
    ----------
    status
        Its exit status, negative for a signal; a shell's is that of the command that ended it.
    """
    if timed_out:
        return f"was ended after its timeout of {policy.timeout:g} s", "timeout"
    if policy.cpu_time is not None and status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return f"used more than its cpu_time of {policy.cpu_time:g} s", "cpu_time"
    if policy.memory is not None and any(said in line.lower() for line in log_tail for said in _NO_MEMORY):
        return f"ran out of its memory of {policy.memory}", "memory"
    return None
