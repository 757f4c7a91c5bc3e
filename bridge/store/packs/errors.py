"""What can be wrong with a pack."""

from __future__ import annotations

from bridge.store.errors import StoreError

__all__ = ["PackError"]


class PackError(StoreError):
    """A pack that is damaged, or hostile; `member` is the file in it that is wrong."""

    def __init__(self, message: str, *, member: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"the pack is not taken: {message}" if member is None else f"{member} in the pack: {message}")
        self.member = member
        self.hint = hint or "what came before it is whole; get the pack anew and run the same command again"
