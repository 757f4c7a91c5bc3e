{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.nixbridge.url = "github:nixbridge/nixbridge";
  inputs.nixbridge.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { nixpkgs, nixbridge, ... }:
    nixbridge.lib.eachSystem (system: {
      # What `nixbridge lock stages.py` pinned: nix build .#report
      packages = nixbridge.lib.fromLock ./bridge.lock;
      devShells.default = nixbridge.lib.devShell { pkgs = nixpkgs.legacyPackages.${system}; };
    });
}
