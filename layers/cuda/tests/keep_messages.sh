#!/bin/sh
# Runs a compiler and keeps what it says (registers and shared memory of every kernel) beside its output.
#   keep_messages.sh COMPILER ARGUMENTS... -o OUTPUT ...
set -u
output=
previous=
for argument in "$@"; do
    [ "$previous" = -o ] && output=$argument
    previous=$argument
done
[ -n "$output" ] || exec "$@"
"$@" 2>"$output.messages"
status=$?
grep -vE '^ptxas info|bytes stack frame|^$' "$output.messages" >&2
exit $status
