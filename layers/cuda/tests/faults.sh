#!/bin/sh
# Builds each fault of faults.txt into the operations' test, in emulation, and fails by name where the test does not:
# where it still passes, where an expression no longer changes one line, or where a kernel has no fault.
#   faults.sh LINK-COMMAND COMPILER FLAGS...    the command that linked the test (keep_link.sh), how a kernel is compiled
#   FAULTS=WORD faults.sh ...                   only the faults whose lines have WORD
# With -fsanitize=NAME among the flags only the faults that need that sanitizer.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cuda=$(dirname "$here")
root=$(cd "$cuda/../.." && pwd)
sanitizer=$(printf '%s\n' "$@" | sed -n 's/^-fsanitize=\([a-z]*\).*/\1/p')

# compile FOLDER SOURCE FLAGS...: the object that replaces the one in the library
compile() {
    folder=$1 source=$2
    shift 2
    "$@" -I"$folder" -I"$root" -c "$source" -o "$folder/faulty.o"
}

# relink FOLDER LINK-COMMAND
relink() {
    awk -v folder="$1" 'NR == 1 { print "cd " $0 " &&"; next }
        $0 == "\047-o\047" { print "\047" folder "/faulty.o\047 -o \047" folder "/test\047"; getline; next }
        { print }' "$2" | tr '\n' ' ' | sh
}

# one NUMBER KERNEL FILE TEST EXPRESSION: says what went wrong into $work/NUMBER.bad
one() {
    folder=$work/$1 kernel=$2 file=${3%%:*} compiled=${3#*:} test=$4 expression=$5
    name="$kernel, $file: $expression"
    shift 5
    link=$1
    shift
    mkdir -p "$folder/layers/cuda"
    sed -e "$expression" "$cuda/$file" >"$folder/layers/cuda/$file"
    if [ "$(diff "$cuda/$file" "$folder/layers/cuda/$file" | grep -c '^<')" != 1 ]; then
        echo "does not change one line: $name" >"$folder.bad"
    else
        [ "$file" = "$compiled" ] && source=$folder/layers/cuda/$file || source=$cuda/$compiled
        if ! { compile "$folder" "$source" "$@" && relink "$folder" "$link"; } >"$folder.log" 2>&1; then
            { echo "does not compile: $name"; head -5 "$folder.log"; } >"$folder.bad"
        else
            (cd "$here" && set -f && timeout 120 "$folder/test" $test) >"$folder.log" 2>&1
            case $? in
            0) echo "NOT CAUGHT: $name" >"$folder.bad" ;;
            124) echo "does not end within two minutes: $name" >"$folder.bad" ;;
            *) [ -z "$sanitizer" ] || grep -q 'Sanitizer' "$folder.log" ||
                echo "caught, but not by the sanitizer: $name" >"$folder.bad" ;;
            esac
        fi
    fi
    rm -rf "$folder"
}

if [ "$1" = --one ]; then # from xargs below: the number, then what the script was called with
    work=$2 number=$3
    shift 3
    sed -n "${number}p" "$work/table" | {
        IFS=$(printf '\t') read -r kernel file test expression
        one "$number" "$kernel" "$file" "$test" "$expression" "$@"
    }
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tab=$(printf '\t')
grep -v -e '^#' -e '^$' "$here/faults.txt" | sed "s/ | /$tab/; s/ | /$tab/; s/ | /$tab/" >"$work/all"
if [ "$sanitizer" ]; then
    without='norms*' # all would take a minute, and cuda_operations is run there itself
    sed -n "s/${tab}$sanitizer /$tab/p" "$work/all"
else
    without='*'
    grep -vE "$tab(address|memory|thread) " "$work/all"
fi >"$work/some"
case " $* " in
*" -DT2T_CUDNN "*) sed "s/${tab}cudnn /$tab/" "$work/some" ;;
*) grep -v "${tab}cudnn " "$work/some" ;;
esac >"$work/built"
grep -F -e "${FAULTS:-}" "$work/built" >"$work/table" || { echo "no fault has ${FAULTS:-}" >&2; exit 2; }

bad=0
# Kernels of the sources, and the sources of keys that attend runs on.
for kernel in $(cat "$cuda"/*.cu "$cuda"/*.cuh | tr '\n' ' ' | tr -s ' ' |
    grep -oE '__global__ (void )?(__launch_bounds__\([^)]*\) )?(void )?[a-z0-9_]+\(' | sed 's/($//; s/.* //') \
    $(awk '/^struct / { name = $2 } /^    __device__ float score\(/ { print name }' "$cuda"/*.cu "$cuda"/*.cuh); do
    cut -f1 "$work/all" | grep -qx "$kernel" || { echo "no fault for $kernel in faults.txt"; bad=1; }
done

# Without a fault the test passes when built this way.
mkdir -p "$work/none"
link=$1
shift
if ! { compile "$work/none" "$cuda/exact_attention.cu" "$@" && relink "$work/none" "$link" &&
    (cd "$here" && set -f && "$work/none/test" $without); } >"$work/none.log" 2>&1; then
    cat "$work/none.log"
    echo "the operations' test fails without any fault"
    exit 1
fi

count=$(wc -l <"$work/table")
seq "$count" | xargs -P "$(nproc)" -I '{}' sh "$0" --one "$work" '{}' "$link" "$@"
cat "$work"/*.bad 2>/dev/null && bad=1
[ "$bad" = 0 ] && echo "$count faults, all caught"
exit "$bad"
