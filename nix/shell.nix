# A dev shell for a project with stages: nixbridge, Python and what the stages are written with.
{
  pkgs,
  nixbridge ? pkgs.python3Packages.callPackage ./package.nix { },
  packages ? [ ],
  shellHook ? "",
}:
pkgs.mkShell {
  packages = [
    nixbridge
    pkgs.python3
  ]
  ++ packages;
  inherit shellHook;
}
