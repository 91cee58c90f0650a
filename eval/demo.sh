#!/bin/sh
# The demo: installs what is missing, builds, draws labelled pictures and compares exact attention with KDEformer on them.
#
#   sh eval/demo.sh [PICTURES]    1000 pictures unless said otherwise; writes build/ and demo/ in the project's folder
#
# The pictures come from a seed that the network was not trained on. `mean` is the control: both tokens-to-token layers
# answer with the mean of v, so its loss is what attention is worth there.
set -eu
cd "$(dirname "$0")/.."
count=${1-1000}
case $count in
'' | *[!0-9]* | 0*)
    echo "eval/demo.sh: \"$count\" is no number of pictures; usage: sh eval/demo.sh [PICTURES]" >&2
    exit 2
    ;;
esac

sh eval/install.sh build
cmake -S . -B build -DT2T_CUDA=OFF -DT2T_TESTS=OFF >build.log 2>&1 && cmake --build build -j "$(nproc)" >>build.log 2>&1 || {
    cat build.log >&2
    exit 1
}
mv build.log build/

pictures=demo/pictures-$count
if [ ! -e "$pictures.complete" ]; then
    rm -rf "$pictures"
    mkdir -p demo
    build/eval/t2tvit-draw --out "$pictures" --count "$count" --seed 1000
    : >"$pictures.complete"
fi
exec build/eval/t2tvit-eval --val-dir "$pictures" --weights weights/demo/demo.safetensors --attention exact,kdeformer,kdeformer:published,mean
