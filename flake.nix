{
  description = "nixbridge: Nix for stages that are not deterministic";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = eachSystem (pkgs: rec {
        nixbridge = pkgs.python3Packages.callPackage ./nix/package.nix { };
        default = nixbridge;
      });

      apps = eachSystem (pkgs: rec {
        nixbridge = {
          type = "app";
          program = "${self.packages.${pkgs.system}.nixbridge}/bin/nixbridge";
        };
        default = nixbridge;
      });

      devShells = eachSystem (pkgs: {
        default = pkgs.callPackage ./nix/checkout.nix { };
      });

      checks = eachSystem (pkgs: {
        inherit (self.packages.${pkgs.system}) nixbridge;
      });

      # What projects use: fromLock, mkStages, overlay, devShell, eachSystem.
      lib = import ./nix/lib.nix;

      nixosModules.default = ./nix/module.nix;

      templates = {
        default = self.templates.minimal;
        minimal = {
          path = ./bridge/templates/minimal;
          description = "Stages that choose the best of three, and a report";
        };
        ml = {
          path = ./bridge/templates/ml;
          description = "A model that is trained five times, evaluated and pinned";
        };
      };

      overlays.default = final: prev: {
        nixbridge = final.python3Packages.callPackage ./nix/package.nix { };
      };
    };
}
