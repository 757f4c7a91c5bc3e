# The packages. What is from Debian is in the Nix store already: the sandbox has no network.
{ system }:
let
  hashes = import ./hashes.nix;

  # A fixed output, which is never fetched where its path is valid.
  put =
    name: mode: unpack:
    derivation {
      inherit name unpack;
      builder = "builtin:fetchurl";
      system = "builtin";
      outputHashMode = mode;
      outputHashAlgo = "sha256";
      outputHash =
        hashes.${name} or (throw "${name} was not downloaded: see tests/nixpkgs/__init__.py");
      executable = false;
      preferLocalBuild = true;
      url = "https://example.invalid/${name}";
      urls = [ "https://example.invalid/${name}" ];
    };
  deb = name: put "${name}.deb" "flat" false;

  # bin/bash and bin/busybox with its applets, statically linked.
  seed = put "seed" "recursive" true;

  run =
    name: script: more:
    derivation (
      {
        inherit name system;
        builder = "${seed}/bin/bash";
        args = [
          "-ec"
          script
        ];
        PATH = "${seed}/bin";
      }
      // more
    );

  # Applets of busybox under a package's name.
  applets =
    name: names:
    run name ''
      mkdir -p $out/bin
      cp ${seed}/bin/busybox $out/bin/.busybox
      for applet in $applets; do ln -s .busybox $out/bin/$applet; done
    '' { applets = names; }
    // {
      meta.outputsToInstall = [ "out" ];
    };

  packages = rec {
    inherit system;

    bash =
      run "bash-5.2" "mkdir -p $out/bin; cp ${seed}/bin/bash $out/bin/; ln -s bash $out/bin/sh" { }
      // {
        meta.outputsToInstall = [ "out" ];
        passthru.shellPath = "/bin/bash";
      };
    bashInteractive = bash;

    busybox = run "busybox-1.35" "cp -r ${seed} $out; chmod -R u+w $out; rm $out/bin/bash" { };

    coreutils = applets "coreutils-9.1" [
      "basename"
      "cat"
      "chmod"
      "comm"
      "cp"
      "cut"
      "date"
      "dirname"
      "echo"
      "env"
      "expr"
      "false"
      "head"
      "id"
      "install"
      "ln"
      "ls"
      "md5sum"
      "mkdir"
      "mktemp"
      "mv"
      "nproc"
      "printf"
      "pwd"
      "readlink"
      "realpath"
      "rm"
      "rmdir"
      "seq"
      "sha256sum"
      "sleep"
      "sort"
      "stat"
      "tail"
      "tee"
      "test"
      "touch"
      "tr"
      "true"
      "uname"
      "uniq"
      "wc"
      "yes"
    ];
    findutils = applets "findutils-4.9" [
      "find"
      "xargs"
    ];
    gnugrep = applets "gnugrep-3.8" [ "grep" ];
    gnused = applets "gnused-4.9" [ "sed" ];
    gawk = applets "gawk-5.2" [ "awk" ];
    gnutar = applets "gnutar-1.34" [ "tar" ];
    gzip = applets "gzip-1.12" [
      "gunzip"
      "gzip"
      "zcat"
    ];

    stdenv = import ./stdenv {
      inherit system;
      shell = "${bash}/bin/bash";
      initialPath = [
        coreutils
        findutils
        gnugrep
        gnused
        gawk
        gnutar
        gzip
        bash
      ];
      make = run;
    };

    # Several outputs, of which the first is not out.
    greet = stdenv.mkDerivation {
      pname = "greet";
      version = "1.0";
      outputs = [
        "bin"
        "dev"
        "out"
        "man"
      ];
      buildCommand = ''
        mkdir -p $bin/bin $dev/include $dev/nix-support $out/lib $man/share
        # As nixpkgs' multiple-outputs.sh does it: who takes dev gets the rest.
        echo $bin $out > $dev/nix-support/propagated-build-inputs
        printf '#!%s\necho greetings\n' ${bash}/bin/sh > $bin/bin/greet
        chmod +x $bin/bin/greet
        echo '#define GREETING "greetings"' > $dev/include/greet.h
        echo greetings > $out/lib/greeting
        echo 'greet: says greetings' > $man/share/greet.txt
      '';
    };

    # By add_packages(nix, flake, PYTHON).
    python3 = import ./python {
      inherit deb run;
      names = hashes.python;
      patchelf = deb "patchelf";
    };
  };
in
packages
