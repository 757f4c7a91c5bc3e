"""Realize all stages of a file in a process of its own: STORE FILE [nix] [jobs=N] [go=FILE] [rebuild=NAME] …"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import FrameType

from bridge.nix.installation import find
from bridge.realize.engine import Options, realize
from bridge.stages.load import load_targets
from bridge.stages.plan import instantiate
from bridge.store.layout import open_store


class Terminated(BaseException):
    pass


def terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def main() -> int:
    signal.signal(signal.SIGTERM, terminate)
    store, file, *rest = sys.argv[1:]
    settings = dict(argument.partition("=")[::2] for argument in rest)
    plan = instantiate(load_targets(file))
    while "go" in settings and not os.path.exists(settings["go"]):
        time.sleep(0.001)
    options = Options(
        jobs=int(settings.get("jobs", 2)), rebuild=frozenset(filter(None, settings.get("rebuild", "").split(",")))
    )
    try:
        outcome = realize(plan, open_store(store), nix=find() if "nix" in settings else None, options=options)
    except (KeyboardInterrupt, Terminated):
        return 130
    chosen: dict[str, list[str]] = {}
    for node, choice in outcome.choices.items():
        # Of two policies for one stage, what the one that takes most has chosen.
        chosen[node.label] = max(chosen.get(node.label, []), [one.id for one in choice.chosen], key=len)
    print(json.dumps(chosen, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
