# A dev shell without nixpkgs: a derivation that `nix develop`, `nix print-dev-env` and `nix-shell` enter.
#
#   import ./mk-shell { inherit bash; packages = [ tool ]; env.DATA = "data"; shellHook = "echo hello"; }
#
# bash       a derivation with bin/bash
# packages   derivations whose bin goes on PATH, the first one first
# env        variables: texts, numbers, paths, derivations
# shellHook  bash that runs when the shell is entered
{
  bash,
  packages ? [ ],
  env ? { },
  shellHook ? "",
  name ? "dev-shell",
  system ? bash.system,
}:
derivation (
  env
  // {
    inherit name system shellHook;
    # nix develop takes no builder but one named bash, and only a derivation that names its outputs.
    builder = "${bash}/bin/bash";
    outputs = [ "out" ];
    args = [
      "-c"
      "echo 'a shell to be entered' > $out"
    ];
    shellPath = builtins.concatStringsSep ":" (map (package: "${package}/bin") (packages ++ [ bash ]));
    stdenv = "${./stdenv}";
  }
)
