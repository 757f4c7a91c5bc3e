"""Python runs this at its start where PYTHONPATH names this folder: so the worker server counts its calls as well."""

import importlib.util
import os
import sys

if "CAMPAIGN_JOURNAL" in os.environ:
    place = os.path.join(os.path.dirname(__file__), "..", "inject.py")
    spec = importlib.util.spec_from_file_location("campaign_inject", place)
    assert spec is not None
    assert spec.loader is not None
    inject = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(inject)
    inject.install(inject.Injection.from_environ())
