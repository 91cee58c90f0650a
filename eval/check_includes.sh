#!/bin/sh
# Who may include whom: each folder sees only what lies below it, and only the named files see their libraries.
#
#   sh eval/check_includes.sh    from the root of the project; prints every include that points the wrong way
set -eu

bad=0

# report FILE:LINE:TEXT... on stdin
report() {
    while IFS= read -r line; do
        echo "$line   <- $1" >&2
        echo bad
    done
}

# Files of folder $1 may include "X/..." only where X matches the pattern $2. (The tests of layers read safetensors.)
only() {
    grep -rnE '^ *# *include *"' "$1" --include='*.c' --include='*.h' --include='*.inc' | grep -vE '^layers/(cuda/)?tests/' |
        grep -vE "#[ ]*include *\"($2)" | report "$1 may include only $2"
}

found=$(
    only layers/base 'layers/base/'
    only layers 'layers/'
    only weights '(weights|layers/base)/'
    only loaders '(loaders|layers/base)/'
    only vit '(vit|layers|weights)/'
    only eval '(eval|vit|layers|loaders|weights)/'
    grep -rnE '^ *# *include *[<"]((oneapi/dnnl/)?dnnl)' . --include='*.c' --include='*.h' |
        grep -v '^./layers/cpu/onednn_linear.c:' | report "only layers/cpu/onednn_linear.c sees oneDNN"
    grep -rnE '^ *# *include *<(jpeglib|jerror|turbojpeg)\.h>' . --include='*.c' --include='*.h' |
        grep -vE '^./loaders/jpeg(_encode)?\.c:' | report "only loaders/jpeg.c and jpeg_encode.c see libjpeg"
    grep -rnE '\b(printf|puts|putchar|perror|exit|abort)\(|fprintf\((stdout|stderr)' layers vit loaders weights --include='*.c' |
        grep -vE '^[a-z]+/([a-z]+/)*tests/|/bench_[a-z_]*\.c:|^[^:]*:[0-9]+: *(/?\*|//)' |
        report "libraries neither print nor exit"
)
[ -z "$found" ] || bad=1
if [ $bad = 0 ]; then echo "includes point the right way"; fi
exit $bad
