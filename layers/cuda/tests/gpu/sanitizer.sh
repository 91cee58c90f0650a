#!/bin/sh
# The operations' test under NVIDIA's compute-sanitizer: memory, races in shared memory, barriers.
#   sanitizer.sh TEST    ends with 77 where there is no compute-sanitizer or no device
set -u
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
"$1" >/dev/null # alone first: it says whether there is a device
status=$?
if [ $status -eq 77 ]; then
    "$1" | grep '^skipped'
    exit 77
fi
[ $status -eq 0 ] || { echo "failed: $1 fails without the sanitizer"; exit 1; }
[ -n "$sanitizer" ] || { echo "skipped: no compute-sanitizer in PATH or /usr/local/cuda/bin"; exit 77; }
for tool in memcheck racecheck synccheck; do
    for format in float32 float16; do
        echo "$sanitizer --tool $tool, $format"
        "$sanitizer" --tool "$tool" --error-exitcode 1 "$1" $format || exit 1
    done
done
