"""Nix as people have it: behind a daemon, trusted or not; a store of one's own; remote builders; failures that stay."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.nix.installation import Installation
from bridge.realize.events import Note
from bridge.store.layout import Store
from bridge.store.verify import verify

from .running import load, run, write_stages

pytestmark = pytest.mark.nix
NOBODY = 65534
RESTRICTED = {"sandbox-paths": "/bin/sh=/bin/busybox /etc/hostname"}
"""A setting that gives a build more than the daemon's owner allows."""

STAGES = """
train = shell("echo TEXT > $out/model", tools=[host("busybox")], builder="nix")

choose = shell('{ cat $model; echo 1; } > $out/chosen', model=train / "model", tools=[host("busybox")],
    deterministic=False, builder="local")

report = shell("cat $chosen > $out/page; ls /etc > $out/etc", chosen=choose / "chosen",
    tools=[host("busybox")], builder="nix")
"""

AS_NOBODY = """
import json, os, sys
from bridge.formats.errors import BridgeError
from bridge.nix.installation import require
from bridge.realize.engine import Options, realize
from bridge.realize.events import Note
from bridge.stages.load import load_targets
from bridge.stages.plan import instantiate
from bridge.store import open_store
from bridge.store.verify import verify

warm, store, first, second, settings = sys.argv[1:]
warming, plan = (instantiate(load_targets(f"{file}:report")) for file in (first, second))
# All is imported before: nobody may not be able to read this Python.
realize(warming, open_store(warm), nix=require())
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
events = []
found = {}
try:
    options = Options(nix_options=json.loads(settings))
    outcome = realize(plan, open_store(store), nix=require(), options=options, report=events.append)
    choice = outcome.choices[plan.targets[0]]
    found = {"page": choice.paths("out"), "runner": choice.chosen[0].realization.runner}
except BridgeError as error:
    found = {"failures": [f"{one.message} ({one.hint})" for one in getattr(error, "failures", ()) or [error]]}
notes = [event.text for event in events if isinstance(event, Note)]
print(json.dumps({**found, "notes": notes, "findings": len(verify(open_store(store)).findings)}))
"""


@pytest.fixture
def trusting(nix: Installation, scratch: Path) -> None:
    """Asked for before the daemon, which reads it at its start."""
    with (scratch / "conf" / "nix.conf").open("a") as conf:
        conf.write("trusted-users = root nobody\n")


@pytest.fixture
def refusing(nix: Installation, scratch: Path) -> None:
    """The same, of who may not talk to it."""
    with (scratch / "conf" / "nix.conf").open("a") as conf:
        conf.write("allowed-users = root\n")


def own(nix: Installation, folder: Path) -> dict[str, str]:
    """The environment of a user whose home is there."""
    places = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    return {**nix.environ, **dict.fromkeys(places, str(folder))}


@pytest.fixture
def ours(nix: Installation, scratch: Path) -> Path:
    """A folder that nobody may write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    scratch.chmod(0o755)
    folder = scratch / "nobody"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    command = [nix.program("nix-build"), "--version"]
    environ = own(nix, folder)
    try:
        subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], env=environ, cwd="/", check=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("this Nix is for root only")
    return folder


def as_nobody(daemon: Installation, scratch: Path, ours: Path, settings: dict[str, str]) -> dict[str, object]:
    files = [write_stages(scratch, STAGES.replace("TEXT", text)) for text in ("warm", "hello")]
    command = [sys.executable, "-c", AS_NOBODY, scratch / "warm", ours / "store", *files, json.dumps(settings)]
    done = subprocess.run(command, env=own(daemon, ours), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def sandbox_etc(nix: Installation, found: dict[str, object]) -> list[str]:
    """What the build saw in /etc."""
    return (nix.real_path(str(found["page"])) / "etc").read_text().split()


def test_a_user_without_rights_builds_through_the_daemon(daemon: Installation, scratch: Path, ours: Path) -> None:
    found = as_nobody(daemon, scratch, ours, {})
    assert (found["runner"], found["findings"], found["notes"]) == ("nix", 0, [])
    page = str(found["page"])
    assert (daemon.real_path(page) / "page").read_text() == "hello\n1\n"
    # Rooted through the daemon, by a link in the user's own store.
    assert os.readlink(ours / "store" / "roots" / f"nix-{os.path.basename(page)}") == page
    daemon.run([daemon.program("nix-store"), "--gc"]).check_returncode()
    assert daemon.real_path(page).exists()


def test_what_a_daemon_takes_of_trusted_users_only_is_said_and_the_build_goes_on(
    daemon: Installation, scratch: Path, ours: Path
) -> None:
    found = as_nobody(daemon, scratch, ours, {**RESTRICTED, "cores": "3"})
    assert found["runner"] == "nix"
    assert "hostname" not in sandbox_etc(daemon, found)
    # Nix before 2.14 keeps it to itself.
    said = ["Nix takes no notice of sandbox-paths: its daemon does not trust this user"]
    assert found["notes"] == (said if daemon.version() >= (2, 14, 0) else [])


@pytest.mark.usefixtures("trusting")
def test_a_trusted_user_may_set_anything(daemon: Installation, scratch: Path, ours: Path) -> None:
    found = as_nobody(daemon, scratch, ours, RESTRICTED)
    assert (found["runner"], found["notes"]) == ("nix", [])
    assert "hostname" in sandbox_etc(daemon, found)


@pytest.mark.usefixtures("refusing")
def test_a_user_whom_the_daemon_does_not_let_in_is_told_so(daemon: Installation, scratch: Path, ours: Path) -> None:
    found = as_nobody(daemon, scratch, ours, {})
    assert "allowed-users" in str(found["failures"])


def test_a_store_that_belongs_to_another_is_one_error(nix: Installation, scratch: Path, ours: Path) -> None:
    found = as_nobody(nix, scratch, ours, {})
    assert "Permission denied" in str(found["failures"]) or "not permitted" in str(found["failures"]), found


@pytest.mark.parametrize("spelt", ["local?root={root}", "{root}", "unix://{socket}?root={root}"])
def test_nix_remote_says_which_store(
    daemon: Installation, store: Store, scratch: Path, tmp_path: Path, spelt: str
) -> None:
    named = spelt.format(root=scratch / "root", socket=scratch / "socket")
    nix = replace(daemon, environ={**daemon.environ, "NIX_REMOTE": named})
    found = run(store, load(tmp_path, STAGES).report, nix=nix)
    assert (found.path("report") / "page").read_text() == "TEXT\n1\n"
    assert found.path("report").is_relative_to(scratch / "root")
    assert not verify(store).findings


def test_a_socket_that_nobody_listens_at_is_one_error(nix: Installation, store: Store, tmp_path: Path) -> None:
    gone = replace(nix, environ={**nix.environ, "NIX_REMOTE": f"unix://{tmp_path}/socket"})
    found = run(store, load(tmp_path, STAGES).train, nix=gone)
    assert f"{tmp_path}/socket" in str(found.error and found.error.failures[0])


def test_a_remote_builder_builds_and_is_named(nix: Installation, store: Store, scratch: Path, tmp_path: Path) -> None:
    # Another store of this machine: Nix's build hook goes the same way as with ssh-ng://.
    machine = f"local?root={scratch}/machine"
    hooked = replace(nix, environ={**nix.environ, "NIX_STATE_DIR": str(scratch / "state")})
    settings = {"max-jobs": "0", "builders": f"{machine} x86_64-linux - 1 1"}
    found = run(store, load(tmp_path, STAGES).report, nix=hooked, nix_options=settings)
    assert (found.path("report") / "page").read_text() == "TEXT\n1\n"
    # Later Nix writes the URL in full.
    assert dict(found.started)["report"].replace("local://", "local") == f"nix on {machine}"
    name = found.path("report").name
    assert (scratch / "machine" / "nix" / "store" / name).exists()


@pytest.mark.parametrize("kind", ["nix", "daemon"])
def test_a_failed_build_is_kept_by_nix_and_its_folder_is_named(
    kind: str, request: pytest.FixtureRequest, store: Store, tmp_path: Path
) -> None:
    nix: Installation = request.getfixturevalue(kind)
    stage = load(tmp_path, 'fails = shell("echo half > work; false", tools=[host("busybox")], builder="nix")').fails
    found = run(store, stage, nix=nix, keep_failed=True)
    kept = [note.text for note in found.of(Note)]
    named = re.search(r"worked in: (\S+)$", " ".join(kept))
    assert named, (kept, str(found.error and found.error.failures[0]))
    assert list(Path(named[1]).rglob("work"))
    subprocess.run(["rm", "-rf", named[1]], check=True)
