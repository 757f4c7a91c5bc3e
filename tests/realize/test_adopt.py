"""Realizations that are taken over from an older derivation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.realize.adopt import adopt
from bridge.realize.choosing import resolved_of
from bridge.realize.places import Places
from bridge.stages.plan import instantiate
from bridge.store.layout import Store

from .running import load, run


def test_who_has_no_name_adopts_under_his_number(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, "@stage\ndef fit(x=out('x')): x.touch()\n\n@stage\ndef train(x=out('x')): x.touch()")
    [old] = run(store, module.fit).choice("fit").chosen
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    [node] = instantiate([module.train]).targets
    [made] = adopt(Places(store, None), node, resolved_of(node, {})[0], [old.realization], "renamed")
    assert made.adopted is not None
    assert made.adopted["who"].startswith("4000000@")
