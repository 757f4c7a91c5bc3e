"""An installed Nix: its daemon's protocol, `nix-build` and its logs, evaluation and flakes.

    installation   where Nix is, which store it works on, what it is configured to do
    client         the worker protocol: objects in, objects out, roots
    build          nix-build as a child, its events and its end
    evaluate       expressions and flakes to `.drv` paths

Nothing here is imported before it is used: a machine without Nix pays nothing for this room.
"""

from bridge._room import make_callable

make_callable(__name__)
