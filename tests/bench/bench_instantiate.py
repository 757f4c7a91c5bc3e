"""Instantiate layered plans, ten stages a layer, three inputs each, against nix-instantiate of the same."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import measure

STAGES = """
from bridge import shell
stages = []
for number in range({count}):
    layer, column = divmod(number, 10)
    inputs = {{f"i{{k}}": stages[(layer - 1) * 10 + (column + k) % 10] for k in range(3)}} if layer else {{}}
    stages.append(shell("cat $i0 > $out/x", name=f"s{{number}}", system="x86_64-linux", **inputs))
top = shell("true", name="top", system="x86_64-linux", all=stages[-10:])
"""

NIX = """
let
  n = {count};
  drv = name: inputs: derivation ({{ inherit name; system = "x86_64-linux"; builder = "/bin/sh";
    args = [ "-euc" "mkdir -p \\"$out\\"\\ncat $i0 > $out/x" ]; }} // inputs);
  row = previous: layer: builtins.genList (column: drv "s${{toString (layer * 10 + column)}}" (
    if previous == [ ] then {{ }} else builtins.listToAttrs (builtins.genList (k: {{
      name = "i${{toString k}}";
      value = builtins.elemAt previous (let m = column + k; in if m >= 10 then m - 10 else m);
    }}) 3))) 10;
  last = builtins.foldl' row [ ] (builtins.genList (layer: layer) (n / 10));
in drv "top" {{ all = last; }}
"""


def compare(count: int, folder: Path) -> None:
    """Both from an empty store, then again with all there."""
    (folder / "stages.py").write_text(STAGES.format(count=count))
    (folder / "stages.nix").write_text(NIX.format(count=count))
    env = measure.nix_environment(folder) | {"NIXBRIDGE_STORE": str(folder / "store")}
    nixbridge = [str(Path(sys.executable).with_name("nixbridge")), "instantiate", str(folder / "stages.py:top")]
    nix = ["nix-instantiate", str(folder / "stages.nix")]
    has_nix = shutil.which("nix-instantiate") is not None
    for state, runs in (("fresh store", 1), ("all there", 3)):
        peer = measure.process(nix, env, runs) if has_nix else None
        measure.row(f"{count} stages, {state}", measure.process(nixbridge, env, runs), "nix-instantiate", peer)


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or (300, 1000, 3000, 10000)):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made:
            compare(size, Path(made))
