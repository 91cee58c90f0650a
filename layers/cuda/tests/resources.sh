#!/bin/sh
# The registers of every kernel on every architecture, from what the compiler said when the module was built: fails where
# one spills, and where the table in KERNELS.md is another (for the compiler that the table names, and of its architectures
# those that were built).
#   resources.sh FOLDER-OF-MESSAGES KERNELS.md NVCC [--write]
set -eu
folder=$1 document=$2 version=$("$3" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
table=$(mktemp)
trap 'rm -f "$table" "$table".*' EXIT
find "$folder" -name '*.messages' -exec cat {} + | awk '
    function name_of(mangled,    kernel, half) {
        # nested names of one anonymous namespace: _ZN <length> _GLOBAL__N__... <length> name
        if (!match(mangled, /^_Z[0-9]+attend(_half)?I/)) return last_word(substr(mangled, index(mangled, "N") + 1))
        kernel = substr(mangled, RSTART, RLENGTH - 1)
        sub(/^_Z[0-9]+/, "", kernel)
        half = type_of(substr(mangled, RLENGTH))
        match(mangled, /[0-9]+_GLOBAL__N__/)
        return kernel "<" (half ? half ", " : "") last_word(substr(mangled, RSTART)) ">"
    }
    function type_of(text) { # a half-precision format as the first argument of a template
        return text ~ /^I6__half/ ? "__half" : text ~ /^I13__nv_bfloat16/ ? "__nv_bfloat16" : ""
    }
    function last_word(text,    count, word, digits) {
        word = ""
        while (match(text, /^[0-9]+/)) {
            digits = substr(text, 1, RLENGTH)
            count = digits + 0
            word = substr(text, RLENGTH + 1, count)
            text = substr(text, RLENGTH + count + 1)
        }
        if (type_of(text)) word = word "<" type_of(text) ">"
        if (text ~ /^ILb1/) word = word "<true>"
        if (text ~ /^ILb0/) word = word "<false>"
        if (match(text, /^ILi[0-9]+/)) word = word "<" substr(text, 4, RLENGTH - 3) ">"
        return word
    }
    /Compiling entry function/ {
        split($0, quoted, "\047")
        kernel = name_of(quoted[2])
        arch = quoted[4]
        kernels[kernel] = 1
        archs[arch] = 1
    }
    /spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ { print "spills: " kernel " on " arch > "/dev/stderr"; bad = 1 }
    /Used [0-9]+ registers/ { match($0, /Used [0-9]+/); used[kernel, arch] = substr($0, RSTART + 5, RLENGTH - 5) }
    END {
        for (arch in archs) order[++count] = substr(arch, 4) + 0
        for (i = 1; i <= count; i++) for (j = i + 1; j <= count; j++) if (order[j] < order[i]) { t = order[i]; order[i] = order[j]; order[j] = t }
        line = "| kernel |"; rule = "|---|"
        for (i = 1; i <= count; i++) { line = line " sm_" order[i] " |"; rule = rule "---:|" }
        print line; print rule
        for (kernel in kernels) names[++all] = kernel
        for (i = 1; i <= all; i++) for (j = i + 1; j <= all; j++) if (names[j] < names[i]) { t = names[i]; names[i] = names[j]; names[j] = t }
        for (k = 1; k <= all; k++) {
            line = "| `" names[k] "` |"
            for (i = 1; i <= count; i++) line = line " " used[names[k], "sm_" order[i]] " |"
            print line
        }
        exit bad
    }' >"$table"
[ "$(wc -l <"$table")" -gt 15 ] || { echo "no messages of the compiler in $folder" >&2; exit 1; }
if [ "${4:-}" = --write ]; then cat "$table"; exit 0; fi
if ! grep -q "nvcc $version" "$document"; then
    echo "KERNELS.md is for another nvcc than $version: its table is not compared; no kernel spills"
    exit 0
fi
# A build for fewer architectures is compared in theirs: columns(FILE) that FILE has of both headers.
head -1 "$table" >"$table.headers"
grep '^| kernel |' "$document" >>"$table.headers"
columns() {
    awk -F'|' 'FNR == NR { for (i = 2; i < NF; i++) seen[$i]++; next }
        FNR == 1 { for (i = 2; i < NF; i++) if (seen[$i] == 2) kept[++count] = i }
        { line = "|"; for (i = 1; i <= count; i++) line = line $kept[i] "|"; print line }' "$table.headers" "$1"
}
sed -n '/^| kernel |/,/^$/p' "$document" | sed '/^$/d' >"$table.document"
columns "$table.document" >"$table.wanted"
columns "$table" >"$table.found"
if [ "$(head -1 "$table.found")" = '| kernel |' ]; then
    echo "KERNELS.md has none of these architectures: its table is not compared; no kernel spills"
    exit 0
fi
if ! diff "$table.wanted" "$table.found"; then
    echo "the table of KERNELS.md is not that of this build (resources.sh ... --write prints it)" >&2
    exit 1
fi
echo "$(($(wc -l <"$table") - 2)) kernels, no spills, as in KERNELS.md"
