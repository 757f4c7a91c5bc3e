"""What kinds of stages there are, in a word."""

from __future__ import annotations

from bridge.stages.values import (
    FetchRecipe,
    GitRecipe,
    HostRecipe,
    NixRecipe,
    PythonRecipe,
    Recipe,
    ShellRecipe,
    SourceRecipe,
    TextRecipe,
)

__all__ = ["KINDS"]

KINDS: dict[type[Recipe], str] = {
    PythonRecipe: "python",
    ShellRecipe: "shell",
    FetchRecipe: "fetch",
    GitRecipe: "fetch",
    SourceRecipe: "source",
    TextRecipe: "text",
    HostRecipe: "host",
    NixRecipe: "nix",
}
