"""Realize one plan again and again, each time killed or failed at another call.

    arguments  PLAN FOLDER WHAT FIRST STEP [SEED STORE]
    run        in a fork, with the injection; then all that it started must end by itself
    look       the store is clean, and nothing that was there is gone
    again      the same without an injection finishes, takes back what was left, and leaves a clean store

It prints a line of JSON for each point, until there are no more calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from bridge.formats.errors import BridgeError
from bridge.realize.engine import Options, realize
from bridge.realize.errors import RealizeError
from bridge.stages.load import load_targets
from bridge.stages.plan import Plan, instantiate
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree
from bridge.store.trace import realizations, resolved_derivations
from bridge.store.verify import verify

from .inject import LINE, Injection, install

SITE = Path(__file__).with_name("site")
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10.0


def attempt(plan: Plan, root: Path, said: Path, rebuild: frozenset[str], injection: Injection | None) -> int:
    """Realize in a fork; gives how it ended: 0, 1 for an error that a user may see, 2 for one that he must not."""
    pid = os.fork()
    if pid:
        return ended(pid)
    code = 2
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if injection is not None:
            os.environ.update(injection.to_environ(), PYTHONPATH=str(SITE))
            install(injection)
        realize(plan, open_store(root), options=Options(jobs=2, rebuild=rebuild, keep_going=True))
        code = 0
    except RealizeError as error:
        for one in (error, *error.failures):
            print(f"error: {one}", flush=True)
        code = 1 if all(isinstance(one, BridgeError) for one in error.failures) else 2
    except BridgeError as error:
        print(f"error: {error}", flush=True)
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """How an attempt ended; it has a minute, which is thirty times what it needs.

    Raises
    ------
    TimeoutError
        If it waits for ever.
    """
    deadline = time.monotonic() + 6 * PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError("it never ends")


def reap() -> bool:
    """Wait for all that a killed run left behind; whether it ended by itself."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
        return False
    return True


def recorded(store: Store) -> set[str]:
    return {f"{drv} {one.id}" for drv in resolved_derivations(store) for one in realizations(store, drv)}


def look(store: Store, before: set[str]) -> list[str]:
    """What is wrong with a store."""
    wrong = [f"{finding.path}: {finding.message}" for finding in verify(store).findings]
    try:
        lost = before - recorded(store)
    except BridgeError as error:
        return [*wrong, str(error)]
    return wrong + [f"lost: {one}" for one in sorted(lost)]


def left(store: Store) -> list[str]:
    """What a run that finished should have taken back."""
    return [f"left: {path}" for folder in (store.tmp, store.checkpoints) for path in sorted(folder.iterdir())]


def one_point(plan: Plan, folder: Path, injection: Injection, seed: Path | None) -> dict[str, Any]:
    root = Path(injection.root)
    store = Store(root)
    if seed is not None:
        subprocess.run(["cp", "-rp", seed, root], check=True)
    rebuild = frozenset(("train", "shaky", "long", "named")) if seed is not None else frozenset[str]()
    before = recorded(store) if seed is not None else set()
    began = time.monotonic()
    wrong = []
    try:
        status = attempt(plan, root, folder / "said", rebuild, injection)
    except TimeoutError as error:
        status = 2
        wrong.append(str(error))
    wrong += [] if reap() else ["processes went on"]
    journal = Path(injection.journal).read_bytes().decode()
    calls = [journal[at : at + LINE].strip() for at in range(0, len(journal), LINE)]
    said = (folder / "said").read_text()
    open_store(root)
    wrong += look(store, before)
    if injection.what != "kill":
        if status not in (0, 1) or "Traceback" in said:
            wrong.append(f"ended with {status}: {said}")
        wrong += [path for path in left(store) if "/checkpoints/" not in path]
        # A text that has its place and no info yet: only a disk that breaks at that very rename leaves one.
        texts = ".drv" if injection.what == "EIO" else "/"
        wrong += [f"rubbish: {path}" for path in verify(store).rubbish if not path.endswith(texts)]
    after = recorded(store)
    again = attempt(plan, root, folder / "again", rebuild, None)
    reap()
    if again != 0:
        wrong.append(f"the next run ended with {again}: {(folder / 'again').read_text()}")
    wrong += look(store, after) + left(store)
    rubbish = len(verify(store).rubbish)
    remove_tree(root)
    os.unlink(injection.journal)
    return {
        "point": injection.point,
        "call": calls[injection.point - 1] if injection.point <= len(calls) else None,
        "calls": len(calls),
        "processes": len({call.split()[0] for call in calls}),
        "status": status,
        "said": said,
        "wrong": wrong,
        "rubbish": rubbish,
        "seconds": round(time.monotonic() - began, 3),
    }


def main() -> None:
    file, folder, what, first, step, *seed = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    plan = instantiate(load_targets(file))
    # What the engine imports late is imported once, not in each fork.
    import_module("bridge.realize.make")
    for point in range(int(first), sys.maxsize, int(step)):
        here = Path(folder, f"at{point}")
        here.mkdir(parents=True)
        injection = Injection(str(here / "store"), str(here / "journal"), what, point)  # type: ignore[arg-type]
        found = one_point(plan, here, injection, Path(seed[0]) if seed else None)
        shutil.rmtree(here)
        print(json.dumps(found), flush=True)
        if found["call"] is None:
            return


if __name__ == "__main__":
    main()
