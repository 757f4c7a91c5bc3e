let
  system = "x86_64-linux";
  producing = derivation { name = "producing.drv"; inherit system; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; __contentAddressed = true; outputHashMode = "text"; outputHashAlgo = "sha256"; };
  plain = derivation { name = "plain"; inherit system; builder = "/bin/sh"; outputs = ["out" "dev"]; };
  one = builtins.outputOf producing.outPath "out";
  deeper = builtins.outputOf one "lib";
in {
  inherit producing;
  user = derivation { name = "user"; inherit system; builder = "/bin/sh"; args = [ "-c" "cat ${one} ${builtins.outputOf producing.outPath "dev"} ${producing} ${plain.dev} > $out" ]; };
  deep = derivation { name = "deep"; inherit system; builder = "/bin/sh"; args = [ "-c" "cat ${deeper} ${one} > $out" ]; };
}
