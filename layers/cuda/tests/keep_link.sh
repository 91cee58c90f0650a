#!/bin/sh
# Runs a link command and keeps it: the folder, then an argument a line, quoted for a shell.
#   keep_link.sh FILE COMPILER ARGUMENTS...
set -eu
file=$1
shift
{
    printf "'%s'\n" "$PWD"
    for argument in "$@"; do printf "'%s'\n" "$argument"; done
} >"$file"
exec "$@"
