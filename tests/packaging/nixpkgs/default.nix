{ }:
let
  make =
    name: more:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
      }
      // more
    );
  callPackageWith =
    scope: file: more:
    let
      f = import file;
    in
    f (builtins.intersectAttrs (builtins.functionArgs f) scope // more);
  lib = {
    genAttrs =
      names: f:
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = f name;
        }) names
      );
    licenses.asl20 = "Apache-2.0";
    platforms.linux = [ "x86_64-linux" ];
    fileset = {
      unions = paths: paths;
      toSource =
        { root, fileset }:
        assert builtins.all builtins.pathExists fileset;
        root;
    };
  };
  packages = builtins.listToAttrs (
    map
      (name: {
        inherit name;
        value = make name { };
      })
      [
        "setuptools"
        "typer"
        "rich"
        "markdown-it-py"
        "pynixutil"
        "cffi"
        "numpy"
        "pytest"
        "pytest-xdist"
        "hypothesis"
        "pyfakefs"
        "mypy"
        "ruff"
        "busybox"
        "nix"
      ]
  );
  buildPythonApplication =
    {
      pname,
      version,
      src,
      dependencies,
      build-system,
      ...
    }:
    make "${pname}-${version}" {
      inherit src dependencies;
      nativeBuildInputs = build-system;
    };
  python3Packages = packages // {
    callPackage = callPackageWith (packages // { inherit lib buildPythonApplication; });
  };
in
packages
// {
  inherit lib python3Packages;
  system = "x86_64-linux";
  python3.withPackages = f: make "python" { paths = f packages; };
  mkShell = { packages, shellHook }: make "shell" { inherit packages shellHook; };
  callPackage = callPackageWith (
    packages
    // {
      inherit lib;
      python3.withPackages = f: make "python" { paths = f packages; };
      mkShell = { packages, shellHook }: make "shell" { inherit packages shellHook; };
    }
  );
}
