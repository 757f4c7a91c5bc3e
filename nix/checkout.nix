# A shell to work on nixbridge: Python with what it and its tests need, and a Nix to test against.
{
  mkShell,
  python3,
  nix,
  busybox,
}:
mkShell {
  packages = [
    nix
    busybox
    (python3.withPackages (ps: [
      ps.setuptools
      ps.typer
      ps.rich
      ps.markdown-it-py
      ps.pynixutil
      ps.cffi
      ps.numpy
      ps.pytest
      ps.pytest-xdist
      ps.hypothesis
      ps.pyfakefs
      ps.mypy
      ps.ruff
    ]))
  ];
  shellHook = ''
    export PYTHONPATH="$PWD''${PYTHONPATH:+:$PYTHONPATH}"
  '';
}
