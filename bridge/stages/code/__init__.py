"""The code of a Python stage as an input: what the function reaches, pruned and normalised.

    module       split into top-level statements; each binds names, reads names, may have effects
    reached      from the function: the statements that bind what it reads, and so on, into modules of the
                 project; a statement with effects on something reached is reached, in whichever module
    normalised   printed again from the syntax tree: no comments, blank lines, docstrings
    whole        a module that is too dynamic to prune (`eval`, `globals()`, `import *`) goes in whole

What is hashed is what runs: the worker imports these very files.
"""

from .modules import Module, load
from .prune import Code, stage_code

__all__ = ["Code", "Module", "load", "stage_code"]
