"""The engine: from a plan to chosen realizations."""

from bridge._room import make_callable

make_callable(__name__)
