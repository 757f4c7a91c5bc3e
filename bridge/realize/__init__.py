"""The engine: from a plan to chosen realizations."""

from bridge._room import call_as

call_as(__name__, "bridge.realize.engine:realize")
