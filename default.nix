# nix-build: the package, with the nixpkgs of NIX_PATH.
{
  pkgs ? import <nixpkgs> { },
}:
pkgs.python3Packages.callPackage ./nix/package.nix { }
