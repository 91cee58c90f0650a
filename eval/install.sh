#!/bin/sh
# Installs the Debian or Ubuntu packages that are missing, by apt-get; nothing happens when all are there.
#
#   sh eval/install.sh build    what building and the demo need
#   sh eval/install.sh check    also what the tests need
set -eu

packages="gcc make cmake pkg-config libdnnl-dev libjpeg-dev libpng-dev libjansson-dev librandom123-dev libarchive-dev
libssl-dev"
case ${1:-} in
build) ;;
check) packages="$packages clang clang-format libomp-dev g++ libcmocka-dev libsimde-dev jq python3-numpy" ;;
*)
    echo "usage: sh eval/install.sh build|check" >&2
    exit 2
    ;;
esac

missing=
for package in $packages; do
    # Virtual packages (libjpeg-dev, pkg-config on newer systems) count as there when something provides them.
    if ! dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
echo "installing:$missing" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "eval/install.sh: no apt-get here; install these packages' equivalents by hand:$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086  # one word a package
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
