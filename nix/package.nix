# nixbridge as a Python application.
{
  lib,
  buildPythonApplication,
  setuptools,
  typer,
  rich,
  markdown-it-py,
  pynixutil,
  cffi,
}:
buildPythonApplication {
  pname = "nixbridge";
  # The one place of the version is bridge/__init__.py.
  version = builtins.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../bridge/__init__.py)
  );
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../bridge
      ../pyproject.toml
      ../README.md
      ../LICENSE
    ];
  };

  build-system = [ setuptools ];
  dependencies = [
    typer
    rich
    markdown-it-py
    pynixutil
    cffi
  ];

  # The tests need a Nix to talk to; `make test` runs them.
  doCheck = false;
  pythonImportsCheck = [ "bridge" ];

  meta = {
    description = "Nix for stages that are not deterministic";
    license = lib.licenses.asl20;
    mainProgram = "nixbridge";
    platforms = lib.platforms.linux;
  };
}
