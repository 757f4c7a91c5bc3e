from __future__ import annotations

from bridge.store.layout import Store
from bridge.store.notes import note_of, notes, write_note


def test_what_is_no_note_is_passed_over(store: Store) -> None:
    write_note(store, "a", "good")
    (store.root / "notes" / "folder.txt").mkdir()
    (store.root / "notes" / "loop.txt").symlink_to("loop.txt")
    assert notes(store) == {"a": "good"}
    assert note_of(store, "folder") is None
    assert note_of(store, "loop") is None
