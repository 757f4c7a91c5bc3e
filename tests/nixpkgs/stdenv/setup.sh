# The part of nixpkgs' setup.sh that stages and dev shells lean on.
set -eu
set -o pipefail
shopt -s nullglob
: "${outputs:=out}"

PATH=
addToSearchPath() { if [ -d "$2" ]; then export "$1=${!1:-}${!1:+:}$2"; fi; }
for i in $initialPath; do addToSearchPath PATH "$i/bin"; done
_initial=$PATH
PATH=

declare -A _seen=()
_addInputs() {
    local one
    for one in $1; do
        [ -z "${_seen[$one]:-}" ] || continue
        _seen[$one]=1
        addToSearchPath PATH "$one/bin"
        addToSearchPath C_INCLUDE_PATH "$one/include"
        addToSearchPath LIBRARY_PATH "$one/lib"
        addToSearchPath PKG_CONFIG_PATH "$one/lib/pkgconfig"
        if [ -f "$one/nix-support/setup-hook" ]; then source "$one/nix-support/setup-hook"; fi
        local more
        for more in propagated-build-inputs propagated-native-build-inputs; do
            if [ -f "$one/nix-support/$more" ]; then _addInputs "$(cat "$one/nix-support/$more")"; fi
        done
    done
}
_callImplicitHook() {
    local def=$1 name=$2
    if declare -F "$name" >/dev/null; then "$name"
    elif [ -n "${!name:-}" ]; then eval "${!name}"
    else return "$def"
    fi
}
runHook() {
    local name=$1 hooks="${1%Hook}Hooks[*]" one
    for one in ${!hooks:-} ; do "$one"; done
    _callImplicitHook 0 "$name"
}
PATH=$_initial
_addInputs "${depsBuildBuild:-} ${nativeBuildInputs:-} ${buildInputs:-}"
# Inputs go before what everybody has.
PATH=${PATH#"$_initial"}
PATH=${PATH#:}${PATH:+:}$_initial
export PATH

unpackFile() {
    if [ -d "$1" ]; then local to; to=$(basename "$1"); to=${to#*-}; cp -r "$1" "$to"; return; fi
    case "$1" in
        *.tar.gz | *.tgz | *.tar) tar xf "$1" ;;
        *) echo "do not know how to unpack source archive $1"; exit 1 ;;
    esac
}
unpackPhase() {
    runHook preUnpack
    if [ -z "${srcs:-}" ]; then
        if [ -z "${src:-}" ]; then echo 'variable $src or $srcs should point to the source'; exit 1; fi
        srcs=$src
    fi
    local before one
    before=" $(echo *) "
    for one in $srcs; do unpackFile "$one"; done
    if [ -z "${sourceRoot:-}" ]; then
        for one in *; do
            if [ -d "$one" ]; then case $before in *" $one "*) ;; *) sourceRoot=$one ;; esac; fi
        done
    fi
    if [ -z "${sourceRoot:-}" ]; then echo "unpacker appears to have produced no directories"; exit 1; fi
    echo "source root is $sourceRoot"
    chmod -R u+w -- "$sourceRoot"
    cd "$sourceRoot"
    runHook postUnpack
}
patchPhase() { runHook prePatch; local one; for one in ${patches:-}; do patch -p1 <"$one"; done; runHook postPatch; }
configurePhase() {
    runHook preConfigure
    : "${prefix=$out}"
    if [ -x ./configure ]; then ./configure --prefix="$prefix" ${configureFlags:-}; fi
    runHook postConfigure
}
buildPhase() { runHook preBuild; if [ -e Makefile ]; then make ${makeFlags:-}; else echo "no Makefile or custom buildPhase, doing nothing"; fi; runHook postBuild; }
checkPhase() { runHook preCheck; make check; runHook postCheck; }
installPhase() { runHook preInstall; if [ -e Makefile ]; then make ${makeFlags:-} prefix="$out" install; fi; runHook postInstall; }
fixupPhase() { runHook preFixup; runHook postFixup; }
showPhaseHeader() { echo "Running phase: $1"; }
runPhase() {
    local curPhase=$1
    if [ "$curPhase" = unpackPhase ] && [ -n "${dontUnpack:-}" ]; then return; fi
    if [ "$curPhase" = configurePhase ] && [ -n "${dontConfigure:-}" ]; then return; fi
    if [ "$curPhase" = buildPhase ] && [ -n "${dontBuild:-}" ]; then return; fi
    if [ "$curPhase" = checkPhase ] && [ -z "${doCheck:-}" ]; then return; fi
    if [ "$curPhase" = installPhase ] && [ -n "${dontInstall:-}" ]; then return; fi
    if [ -n "${NIX_LOG_FD:-}" ]; then echo "@nix { \"action\": \"setPhase\", \"phase\": \"$curPhase\" }" >&"$NIX_LOG_FD"; fi
    showPhaseHeader "$curPhase"
    # A variable of the phase's name stands in for the function.
    eval "${!curPhase:-$curPhase}"
}
genericBuild() {
    if [ -f "${buildCommandPath:-}" ]; then source "$buildCommandPath"; return; fi
    if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; return; fi
    if [ -z "${phases:-}" ]; then
        phases="${prePhases:-} unpackPhase patchPhase ${preConfigurePhases:-} configurePhase buildPhase checkPhase installPhase fixupPhase ${postPhases:-}"
    fi
    local one
    for one in $phases; do runPhase "$one"; done
}
NIX_LOG_FD=2
runHook postHook
