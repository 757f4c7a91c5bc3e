"""Completion in IPython beyond the first dot: `r.train.inputs.<Tab>`.

IPython evaluates what stands before the last dot only of classes whose attributes it knows to do no harm. Ours read the
store and nothing else.
"""

from __future__ import annotations

import contextlib
from typing import Any

from .fields import Artifact, Fields
from .realized import Realized, Source
from .results import Results
from .several import Family, Realizations

__all__ = ["complete_in_ipython"]

_WALKED = {Artifact, Family, Fields, Realizations, Realized, Results, Source}


def complete_in_ipython() -> None:
    """Have the IPython of this process complete what is walked over."""
    # How it is told is no promise of IPython's: without it, it completes less.
    with contextlib.suppress(ImportError, AttributeError, KeyError):
        from IPython.core.guarded_eval import EVALUATION_POLICIES

        policy: Any = EVALUATION_POLICIES["limited"]
        if policy.allowed_getattr >= _WALKED:
            return
        policy.allowed_getattr |= _WALKED
        policy.allowed_getitem |= _WALKED
        for cached in ("_getitem_methods", "_getattr_methods", "_getattribute_methods"):
            vars(policy).pop(cached, None)
