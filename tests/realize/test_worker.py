from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
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


def test_host_facts_can_be_had_while_other_threads_import() -> None:
    many = {f"made_up_{number}": ModuleType("made_up") for number in range(20_000)}
    ended = threading.Event()

    def imports() -> None:
        while not ended.is_set():
            for name, module in many.items():
                sys.modules[f"{name}_more"] = module
            for name in many:
                del sys.modules[f"{name}_more"]

    thread = threading.Thread(target=imports)
    interval = sys.getswitchinterval()
    sys.modules.update(many)
    try:
        sys.setswitchinterval(1e-6)
        thread.start()
        for _ in range(20):
            assert worker.host_facts()["packages"]["numpy"] == np.__version__
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)
        for name in many:
            del sys.modules[name]


def test_a_limit_that_is_lower_already_stays_for_a_run() -> None:
    code = "import resource\nfrom bridge.realize import worker\nworker.limit({'cpu_time': 5000, 'memory': 1 << 43})\n"
    code += "print(resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_DATA)[0] >> 10)"
    command = shlex.join([sys.executable, "-c", code])
    lower = ["/bin/sh", "-c", f"ulimit -t 1000; ulimit -d 4000000; exec {command}"]
    assert subprocess.run(lower, capture_output=True, text=True, check=True).stdout == "1000 4000000\n"
