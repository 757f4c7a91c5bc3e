{
  description = "A stand-in for nixpkgs: programs of Debian, in the shape that nixpkgs has";

  outputs =
    { self }:
    let
      system = "x86_64-linux";
    in
    {
      legacyPackages.${system} = import ./packages.nix { inherit system; };
    };
}
