#!/bin/sh
# Runs the README's "ten lines to first use" as they stand, but for the demo itself and with fewer pictures.
#
#   sh eval/check_readme.sh    from the root of the project, after eval/demo.sh has built build/
set -eu
root=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$root/build" "$root/weights" "$folder/"

awk '/^## Ten lines/ { inside = 1; next } /^## / { inside = 0 } inside && /^    / { print substr($0, 5) }' README.md |
    sed -e '/eval\/demo.sh/d' -e 's/--count 120/--count 24/' >"$folder/lines"
[ "$(wc -l <"$folder/lines")" -ge 8 ] || { echo "README.md has lost its first lines" >&2; exit 1; }
cd "$folder"
export XDG_DATA_HOME="$folder"
sh -eux lines
