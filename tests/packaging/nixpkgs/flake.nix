{
  # Shaped like nixpkgs as far as our flake looks: enough to evaluate it where nixpkgs can not be had.
  outputs =
    { self }:
    let
      pkgs = import ./default.nix { };
    in
    {
      inherit (pkgs) lib;
      legacyPackages = pkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
    };
}
