#!/bin/sh
# Tests and measures the GPU code of Convoke on a machine that has a CUDA driver and nothing else.
#
#   ./run.sh            logs and results go to ./out beside this script
#   OUT=DIR ./run.sh    they go to DIR
#
# Exits with 0 if everything passed, 1 otherwise.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
out=${OUT:-$here/out}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd) || exit 1
table=$out/summary.txt
failures=0

# The machine's glibc if it is new enough, else the one that came along.
needed=$(cat "$here/glibc/needed")
present=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$needed" "${present:-0}" | sort -V | head -n 1)
if [ "$oldest" = "$needed" ]; then
    glibc="$present (this machine)"
    start() { LD_LIBRARY_PATH=$here/lib "$@"; }
else
    glibc="of the bundle (this machine has ${present:-none}, $needed is needed)"
    start() { "$here/glibc/ld-linux-x86-64.so.2" --library-path "$here/glibc:$here/lib" "$@"; }
fi

say() { printf '%s\n' "$*" | tee -a "$table"; }

# step NAME COMMAND...: runs it with its output in NAME.log; adds a row to the table.
step() {
    log=$out/$1.log
    row=$1
    shift
    began=$(date +%s.%N)
    "$@" >"$log" 2>&1 </dev/null
    code=$?
    seconds=$(echo "$began $(date +%s.%N)" | awk '{ printf "%.2f", $2 - $1 }')
    if [ $code -eq 0 ]; then state=passed; else state="FAILED ($code)"; failures=$((failures + 1)); fi
    skipped=$(grep -c 'skipped: ' "$log")
    if [ "$skipped" -gt 0 ]; then note="$skipped skipped"; else note=""; fi
    printf '%-40s %-12s %10s s  %s\n' "$row" "$state" "$seconds" "$note" | tee -a "$table"
    if [ $code -ne 0 ]; then tail -n 40 "$log"; fi
    return $code
}

: >"$table"
say "Convoke on a GPU, $(date -u '+%Y-%m-%d %H:%M UTC')"
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null) || gpu="unknown (no nvidia-smi)"
say "GPU, driver, memory: $gpu"
say "CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
say "glibc: $glibc"
say ""

# A missing GPU is a failure here, not a reason to skip.
CONVOKE_REQUIRE_GPU=1
export CONVOKE_REQUIRE_GPU
cd "$out" || exit 1

for test in "$here"/tests/*; do
    [ -x "$test" ] && step "test-$(basename "$test")" start "$test"
done

for job in "$here"/jobs/*.cuda.toml; do
    name=$(basename "$job" .cuda.toml)
    rm -rf "$out/$name.cuda" "$out/$name.cpu"
    step "run-$name-cuda" start "$here/bin/convoke" run "$job" --dir "$out/$name.cuda"
    ran=$?
    step "run-$name-cpu" start "$here/bin/convoke" run "$here/jobs/$name.cpu.toml" --dir "$out/$name.cpu"
    # Words, not one argument.
    tolerance=$(cat "$here/jobs/$name.tolerance")
    # shellcheck disable=SC2086
    [ $ran -eq 0 ] && step "compare-$name" start "$here/bin/convoke" analyse diff "$out/$name.cuda" "$out/$name.cpu" $tolerance
done

for bench in "$here"/bench/*; do
    [ -x "$bench" ] || continue
    name=$(basename "$bench")
    step "$name" start "$bench" && cat "$out/$name.log"
done

say ""
# Why no job found a GPU, if that is what failed.
reason=$(sed -n 's/.*\(no GPU: .*\)/\1/p' "$out"/run-*-cuda.log | head -n 1)
[ -z "$reason" ] || say "$reason"
if [ $failures -eq 0 ]; then say "All passed. Logs and results: $out"; else say "$failures FAILED. Logs: $out"; fi
[ $failures -eq 0 ]
