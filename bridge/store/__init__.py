"""The Python store: plain files that any number of processes share.

    store/<hash>-<name>            objects, canonical as Nix makes them (read-only, mtime 1)
    info/<hash>-<name>.json        what is known of a valid object: NAR hash and size, references
    trace/<resolved drv>/<id>.json realizations, written once, never changed
    roots/ logs/ tmp/ locks/ checkpoints/ cache/

An object is valid once its info is there; bytes without one are rubbish. Everything enters by a file in
tmp/, made durable and renamed, so that a process killed anywhere leaves a clean store.
"""

from .errors import StoreError
from .layout import Store, open_store

__all__ = ["Store", "StoreError", "open_store"]
