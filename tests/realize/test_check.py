"""Realizations that are made once more and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.realize.check import check
from bridge.realize.engine import realize
from bridge.realize.errors import BuildError
from bridge.realize.places import Places
from bridge.realize.task import Context
from bridge.realize.workers import ForkWorkers
from bridge.stages.plan import instantiate
from bridge.store.layout import Store

from .running import assert_clean, load


def test_a_failure_that_was_chosen_may_fail_again(store: Store, tmp_path: Path) -> None:
    text = f"""
    from pathlib import Path
    @stage(on_error="keep", match=where(result="failed") >> latest())
    def fails(x=out("x")):
        raise OSError("always")
    @stage(on_error="keep")
    def once(x=out("x")):
        if Path({str(tmp_path / "broken")!r}).exists():
            raise OSError("broken")
        x.touch()
    """
    module = load(tmp_path, text)
    plan = instantiate([module.fails, module.once])
    outcome = realize(plan, store)
    context = Context(store, Places(store, None), lambda event: None)
    with ForkWorkers() as workers:
        checked = list(check(plan, outcome, context, workers))
        assert [(one.node.name, one.differences) for one in checked] == [("fails", ()), ("once", ())]
        (tmp_path / "broken").touch()
        with pytest.raises(BuildError, match=r"the stage once fails this time: .* broken"):
            list(check(plan, outcome, context, workers, ["once"]))
    assert_clean(store)
