#!/bin/sh
# Every file that crashed the target `hdf5`, given to the program: it must end with 0, 2 or 9, and without a panic.
set -u
cd "$(dirname "$0")/.."
cargo build -q || exit 1
program=${CARGO_TARGET_DIR:-target}/debug/convoke
said=$(mktemp)
trap 'rm -f "$said"' EXIT
files=0 bad=0
for file in fuzz/artifacts/hdf5/*; do
    [ -f "$file" ] || continue
    files=$((files + 1))
    "$program" analyse --no-pictures "$file" >/dev/null 2>"$said"
    code=$?
    case $code in 0 | 2 | 9) ;; *) code=bad ;; esac
    if [ $code = bad ] || grep -q 'panicked\|please report' "$said"; then
        bad=$((bad + 1))
        echo "$file: $(head -c 300 "$said")"
    fi
done
echo "$files files, $bad findings"
[ $bad = 0 ]
