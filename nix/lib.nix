# What flakes take from nixbridge: pinned results as packages. Pure, without nixpkgs or import-from-derivation.
#
#   fromLock ./bridge.lock     LABEL to what is pinned: a derivation, or a list of them where several were chosen
#   mkStages { manifest = ./stages.json; }     NAME to derivation, of `nixbridge derivation show -r --json-format 4`
#   overlay ./bridge.lock      an overlay with `stages`, as fromLock gives them
#   devShell { pkgs = …; }     a shell with nixbridge, Python and a project's tools
#   eachSystem (system: { packages = …; })     the outputs of a flake for all systems
let
  inherit (builtins)
    appendContext
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    fromJSON
    head
    isString
    listToAttrs
    map
    mapAttrs
    pathExists
    readFile
    removeAttrs
    split
    substring
    ;

  # "/nix/store/", 32 digits and a dash.
  nameOf = substring 44 (-1);

  # A path that must be in the store already, or that a substituter has: asking for it is pure, as it holds its hash.
  inStore = path: appendContext path { ${path}.path = true; };

  # An object whose path follows from its contents: fetched from a cache, unless it is in the store or a substituter's.
  fetched =
    label: object:
    let
      drv = derivation {
        name = nameOf object.path;
        builder = "builtin:fetchurl";
        system = "builtin";
        # Nix's own message shows the URL, which says here what is missing.
        url =
          if object.urls == [ ] then
            "no cache is pinned for ${label}: nixbridge push-nix, or nixbridge lock --cache URL"
          else
            head object.urls;
        inherit (object) urls;
        # The archive, unpacked; Nix sees from the name whether it is compressed.
        unpack = true;
        executable = false;
        preferLocalBuild = true;
        outputHash = object.contentAddress.hash;
        outputHashMode = if object.contentAddress.method == "nar" then "recursive" else "flat";
        impureEnvVars = [
          "http_proxy"
          "https_proxy"
          "ftp_proxy"
          "all_proxy"
          "no_proxy"
        ];
      };
    in
    if drv.outPath == object.path then
      drv
    else
      throw "bridge.lock was edited: ${object.path} of ${label} does not have the hash ${object.contentAddress.hash}";

  # A fixed-output derivation has no references and no input-addressed path: such objects must be there.
  present =
    label: entry: realization: output: object:
    let
      self = {
        type = "derivation";
        name = nameOf object.path;
        system = "builtin";
        outPath = inStore object.path;
        drvPath =
          if entry.evaluatedLate or false then
            throw "${label} is written in Nix and evaluated for its inputs, so that its pin is no derivation: use it as an input, or by its outPath"
          else if realization.record.runner == "nix" then
            inStore realization.record.drv
          else
            throw "${label} has references, so that its pin is no derivation: use it as an input, or by its outPath";
        outputName = output;
        outputs = [ output ];
        ${output} = self;
      };
    in
    # Of what follows from its contents, it does not matter who made it.
    if realization.record.runner == "local" && object.contentAddress == null then
      throw "${label} was built by nixbridge's local builder, and Nix does not take that for its own: realize it with Nix, then nixbridge lock"
    else
      self;

  objectOf =
    label: entry: realization: output: object:
    let
      isFixed =
        object.contentAddress != null
        && object.references == [ ]
        && elem object.contentAddress.method [
          "nar"
          "flat"
        ];
    in
    if isFixed then fetched label object else present label entry realization output object;

  stageOf =
    label: entry:
    let
      realizations = map (
        realization:
        let
          outputs = mapAttrs (objectOf label entry realization) realization.outputs;
        in
        outputs
        // outputs.${entry.output}
        // {
          inherit (entry) matcher;
          inherit (realization) id record;
          inherit (realization.record) metrics;
          inherit label realizations;
        }
      ) entry.realizations;
    in
    if entry.many then realizations else head realizations;

  fromLock =
    file:
    let
      lock = fromJSON (readFile file);
    in
    if !pathExists file then
      # A project that has pinned nothing yet.
      { }
    else if lock.version or 0 != 1 then
      throw "${toString file} was written by another nixbridge, of lock version ${toString (lock.version or 0)}: update the flake input"
    else
      mapAttrs stageOf lock.stages;

  mkStages =
    {
      manifest,
      # Name to path, of sources that are files of the flake; others must be in the store.
      sources ? { },
    }:
    let
      described = fromJSON (readFile manifest);
      derivations = described.derivations or (throw "${toString manifest} is not of `nixbridge derivation show -r --json-format 4`");

      sourceOf =
        base:
        let
          name = substring 33 (-1) base;
          path = builtins.path {
            inherit name;
            path = sources.${name};
          };
        in
        if !(sources ? ${name}) then
          inStore "/nix/store/${base}"
        else if path == "/nix/store/${base}" then
          path
        else
          throw "${name} is not the source that ${toString manifest} was made from: write it anew";

      make =
        base: drv:
        let
          uses = concatMap (input: map (output: made.${input}.${output}) drv.inputs.drvs.${input}.outputs) (
            attrNames drv.inputs.drvs
          );
          # Nix knows inputs by the context of strings: nothing is added to the text.
          context = concatStringsSep "" (map (input: substring 0 0 "${input}") (uses ++ map sourceOf drv.inputs.srcs));
          given =
            if drv ? structuredAttrs then
              drv.structuredAttrs // { __structuredAttrs = true; }
            else
              removeAttrs drv.env (attrNames drv.outputs)
              // (
                if drv.env ? outputs then { outputs = filter isString (split " " drv.env.outputs); } else { }
              );
          found = derivation (
            given
            // {
              inherit (drv) name system args;
              builder = drv.builder + context;
            }
          );
        in
        if found.drvPath == "/nix/store/${base}" then
          found
        else
          throw "${drv.name} of ${toString manifest} does not have the path ${base}: its stage is not deterministic, or the file was edited";

      made = mapAttrs make derivations;
    in
    listToAttrs (
      map (base: {
        inherit (derivations.${base}) name;
        value = made.${base};
      }) (attrNames derivations)
    );

  overlay = file: final: prev: { stages = fromLock file; };

  devShell = import ./shell.nix;

  systems = [
    "x86_64-linux"
    "aarch64-linux"
  ];

  # The outputs of a flake, written once for all systems.
  eachSystem =
    outputsOf:
    let
      genAttrs =
        names: valueOf:
        listToAttrs (
          map (name: {
            inherit name;
            value = valueOf name;
          }) names
        );
      found = genAttrs systems outputsOf;
    in
    mapAttrs (output: _: genAttrs systems (system: found.${system}.${output})) found.${head systems};
in
{
  inherit
    devShell
    eachSystem
    fromLock
    mkStages
    overlay
    ;
}
