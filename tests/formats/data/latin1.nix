derivation { name = "latin1"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "café" ]; word = "äÿ naÃ¯ve â("; }
