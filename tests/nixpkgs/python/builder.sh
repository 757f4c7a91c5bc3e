triple=x86_64-linux-gnu
mkdir -p unpacked tools $out/lib $out/bin
for one in $debs; do dpkg-deb -x $one unpacked; done
dpkg-deb -x $patchelf tools

# All shared libraries in one folder, links between them relative.
for folder in unpacked/lib/$triple unpacked/usr/lib/$triple; do
  [ -d $folder ] || continue
  for file in $folder/*.so*; do
    case $file in *.conf | *'*'*) continue ;; esac
    cp -a $file $out/lib/
  done
done
for link in $(find $out/lib -maxdepth 1 -type l); do
  target=$(readlink $link)
  ln -sfn ${target##*/} $link
done
cp -a unpacked/usr/lib/python3.11 $out/lib/python3.11
rm -f $out/lib/python3.11/sitecustomize.py
cp unpacked/usr/bin/python3.11 $out/bin/python3.11
ln -s python3.11 $out/bin/python3
ln -s python3.11 $out/bin/python
chmod -R u+w $out

# The loader looks nowhere but where it is told to.
loader=$out/lib/ld-linux-x86-64.so.2
sed -i -e 's,/etc/ld.so.cache,/nix/no/so.cache,g' \
  -e 's,/lib/x86_64-linux-gnu,/nol/x86_64-linux-gnu,g' \
  -e 's,/usr/lib/x86_64-linux-gnu,/usr/nol/x86_64-linux-gnu,g' $loader

# patchelf is of Debian itself: run by the loader, with the libraries here.
patchelf() { $loader --library-path $out/lib tools/usr/bin/patchelf "$@"; }
patchelf --set-interpreter $loader --force-rpath --set-rpath $out/lib $out/bin/python3.11
for file in $(find $out/lib/python3.11/lib-dynload -name '*.so') $(find $out/lib -maxdepth 1 -type f -name '*.so*'); do
  case ${file##*/} in ld-linux* | libc.so* | libc-*) continue ;; esac
  cp $file work
  patchelf --force-rpath --set-rpath $out/lib work
  cat work >$file
done
$out/bin/python3 -I -B -c 'import bz2, ctypes, hashlib, lzma, sqlite3, ssl, sys, venv, zlib; assert sys.prefix == "'$out'"'
