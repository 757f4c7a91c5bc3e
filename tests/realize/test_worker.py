from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.realize import worker


class Tensor:
    """As torch's: `item` for one value."""

    def item(self) -> float:
        return 2.5


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (0.5, 0.5),
        ("text", "text"),
        (None, None),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array(3.0), 3.0),
        (Tensor(), 2.5),
        ((1, [np.int8(2)]), [1, [2]]),
        ({1: np.float32(1)}, {"1": 1.0}),
        (math.nan, "nan"),
        (np.float32("inf"), "inf"),
        ([-math.inf], ["-inf"]),
    ],
)
def test_metrics_become_json(value: Any, kept: Any) -> None:
    run = worker.Run(0, 1, Path(), Path(), None)
    run.log(metric=value)
    recorded = json.loads(json.dumps(run.metrics, allow_nan=False))["metric"]
    assert recorded == kept
    assert type(recorded) is type(kept)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", [Path()]])
def test_what_is_no_metric_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"run\.log\(loss=…\) got a"):
        worker.Run(0, 1, Path(), Path(), None).log(loss=value)


def test_the_last_value_of_a_metric_counts_and_later_changes_do_not() -> None:
    run = worker.Run(0, 1, Path(), Path(), None)
    values = [1]
    run.log(a=1, b=values)
    run.log(a=2)
    values.append(2)
    assert run.metrics == {"a": 2, "b": [1]}


def test_the_worker_imports_nothing_but_the_standard_library() -> None:
    code = f"""
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
import runpy
runpy.run_path({worker.__file__!r})
print([name for name in sys.modules if name.partition(".")[0] in ("bridge", "numpy")])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_host_facts_name_what_was_imported() -> None:
    facts = worker.host_facts()
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "json" not in facts["packages"]
    json.dumps(facts)
