# What nixpkgs' stdenv does, as far as the tests go: the same wiring of the derivation, the same phases.
{
  system,
  shell,
  initialPath,
  make,
}:
let
  outputOf =
    names: package:
    if package.outputSpecified or false then
      package
    else
      builtins.foldl' (
        found: name: if found == null && package ? ${name} then package.${name} else found
      ) null names;
  getDev =
    package:
    if !builtins.isAttrs package then
      package
    else
      let
        found = outputOf [
          "dev"
          "out"
        ] package;
      in
      if found == null then package else found;

  stdenv =
    make "stdenv-linux"
      ''
        mkdir $out
        { echo "export SHELL=$shell"; echo "initialPath=\"$initialPath\""; cat $setup; } > $out/setup
      ''
      {
        inherit shell initialPath;
        setup = ./setup.sh;
      }
    // {
      inherit shell mkDerivation system;
      isLinux = true;
    };

  mkDerivation =
    argument:
    let
      attrs = if builtins.isFunction argument then argument final else argument;
      final = attrs // {
        finalPackage = package;
      };
      outputs = attrs.outputs or [ "out" ];
      drv = derivation (
        removeAttrs attrs [
          "builder"
          "meta"
          "passthru"
          "pos"
        ]
        // {
          name = attrs.name or "${attrs.pname}-${attrs.version}";
          builder = shell;
          args =
            attrs.args or [
              "-e"
              ./source-stdenv.sh
              (attrs.builder or ./default-builder.sh)
            ];
          inherit stdenv system outputs;
          __structuredAttrs = false;
          strictDeps = attrs.strictDeps or false;
          depsBuildBuild = map getDev (attrs.depsBuildBuild or [ ]);
          nativeBuildInputs = map getDev (attrs.nativeBuildInputs or [ ]);
          buildInputs = map getDev (attrs.buildInputs or [ ]);
          propagatedBuildInputs = map getDev (attrs.propagatedBuildInputs or [ ]);
          propagatedNativeBuildInputs = map getDev (attrs.propagatedNativeBuildInputs or [ ]);
          configureFlags = attrs.configureFlags or [ ];
          patches = attrs.patches or [ ];
          doCheck = attrs.doCheck or false;
          doInstallCheck = attrs.doInstallCheck or false;
        }
      );
      main = if builtins.elem "bin" outputs then "bin" else builtins.head outputs;
      common = {
        meta = {
          outputsToInstall = [ main ] ++ (if builtins.elem "man" outputs then [ "man" ] else [ ]);
        }
        // attrs.meta or { };
        passthru = attrs.passthru or { };
        overrideAttrs = change: mkDerivation (attrs // change attrs);
      };
      each = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = drv.${name} // common // { outputSpecified = true; };
        }) outputs
      );
      package = drv // common // each // attrs.passthru or { };
    in
    package;
in
stdenv
