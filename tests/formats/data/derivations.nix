# Every kind of derivation that Nix makes, for the tests that compare with it.
# aterm/good holds what Nix 2.8.0 instantiates of this, each file under its own name in the store:
#     nix-instantiate tests/formats/data/derivations.nix
let
  make =
    name: more:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo hi > $out" ];
      }
      // more
    );
  hello = "sha256-CkMI+IRjeO8KDOo26jv0fHS3hPLUiUU4cwKMyTbVr1M=";
  fetch = url: make "source.tar.gz" { outputHashAlgo = "sha256"; outputHash = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="; inherit url; };
  text = builtins.toFile "text" "some text\n";
in
rec {
  plain = make "plain" { };
  multi = make "multi" {
    outputs = [ "out" "bin" "dev" ];
    args = [ "-c" "echo $out > $out; echo hi > $bin; echo hi > $dev" ];
  };
  dep = make "dep" {
    args = [ "-c" "read x < ${plain}; echo $x > $out" ];
    b = multi.bin;
    d = multi.dev;
  };
  deep = make "deep" { inherit dep plain; all = "${multi} ${multi.bin}"; };

  fixedRec = make "fixed-rec" {
    args = [ "-c" "printf hello > $out" ];
    outputHashMode = "recursive";
    outputHash = hello;
  };
  fixedFlat = fetch "https://example.org/a";
  fixedMirror = fetch "https://mirror.example.org/a";
  fixedSha1 = make "fixed-sha1" { outputHashAlgo = "sha1"; outputHash = "f572d396fae9206628714fb2ce00f72e94f2258f"; };
  fixedSha1Rec = make "fixed-sha1-rec" {
    outputHashMode = "recursive";
    outputHashAlgo = "sha1";
    outputHash = "f572d396fae9206628714fb2ce00f72e94f2258f";
  };
  fixedSha512 = make "fixed-sha512" {
    outputHash = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";
  };
  fixedMd5 = make "fixed-md5" { outputHashAlgo = "md5"; outputHash = "d41d8cd98f00b204e9800998ecf8427e"; };
  # Two ways to fetch the same thing: one output path above them.
  ofFetch = make "of-fetch" { src = fixedFlat; };
  ofMirror = make "of-fetch" { src = fixedMirror; };
  # Of two that are equal but for the fetch, an output each: one entry with both outputs in the hash.
  parts = make "parts" { src = fixedFlat; outputs = [ "out" "dev" ]; };
  partsMirror = make "parts" { src = fixedMirror; outputs = [ "out" "dev" ]; };
  ofParts = make "of-parts" { a = parts.out; b = partsMirror.dev; };
  ofBoth = make "of-both" { a = ofFetch; b = ofMirror; first = fixedFlat; second = fixedMirror; };

  structured = make "structured" {
    __structuredAttrs = true;
    outputs = [ "out" "dev" ];
    list = [ 1 2 "three" true null ];
    nested.a.b = 1.5;
  };
  structuredText = make "structured-text" {
    __structuredAttrs = true;
    # Without \b and \f: Nix 2.8 prints \u0008 and \u000c, Nix 2.12 and later as here.
    control = builtins.fromJSON ''"\u0001\u001f\u007f"'';
    unicode = "ünïcödé ☃ 𝄞";
    escaped = "a\\b\"c\nd\te\rf/g";
    empty = { };
    none = [ ];
    "key with \"quotes\"" = { z = 1; a = [ { } ]; };
  };

  floating = make "floating" {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  floatingMulti = make "floating-multi" {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputs = [ "out" "dev" ];
    args = [ "-c" "echo $out > $out; echo hi > $dev" ];
  };
  floatingFlat = make "floating-flat" {
    __contentAddressed = true;
    outputHashMode = "flat";
    outputHashAlgo = "sha512";
  };
  depFloating = make "dep-floating" { args = [ "-c" "read x < ${floating}; echo $x > $out" ]; };
  depFloatingMulti = make "dep-floating-multi" {
    outputs = [ "out" "doc" ];
    args = [ "-c" "read x < ${floatingMulti}; read y < ${floatingMulti.dev}; read z < ${plain}; echo $x $y $z > $out; echo $x > $doc" ];
    twice = "${floatingMulti.dev}:${floatingMulti.dev}";
    src = ./source.txt;
  };
  floatingOfFloating = make "floating-of-floating" {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    args = [ "-c" "read x < ${floating}; echo ${floating} $x > $out" ];
  };
  # Deferred two steps away from what floats.
  deferredTwice = make "deferred-twice" { inherit depFloating; args = [ "-c" "read x < $depFloating; echo $x > $out" ]; };

  impure = make "impure" { __impure = true; };
  ofImpure = make "of-impure" { __impure = true; inherit impure; };

  escapes = make "escapes" {
    args = [ "-c" "echo > $out" "\\" "\"" "\n" "\r" "\t" "\\n" "\\\\\"" "" ];
    quotes = "a \"quoted\" word";
    backslashes = "\\ \\\\ \\n \\\" end\\";
    lines = "one\ntwo\r\nthree\tfour\n";
    dollar = "\${x} $x ''";
    control = builtins.fromJSON ''"\u0001\u001b[1m\u007f"'';
    unicode = "ünïcödé ☃ 𝄞";
    "odd key \"\\\n" = "x";
    brackets = "[(\",\")],s,s";
    empty = "";
  };
  sources = make "sources" {
    src = ./source.txt;
    inherit text;
    more = builtins.toFile "more" "refers to ${text} and ${text}\n";
  };
}
