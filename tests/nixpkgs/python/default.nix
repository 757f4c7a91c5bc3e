# CPython of Debian, with its libraries and loader beside it: nothing outside of the store is used.
{
  run,
  deb,
  names,
  patchelf,
}:
run "python3-3.11.2" (builtins.readFile ./builder.sh) {
  debs = map deb names;
  inherit patchelf;
}
// {
  pythonVersion = "3.11";
  sitePackages = "lib/python3.11/site-packages";
  meta.outputsToInstall = [ "out" ];
}
