#!/bin/sh
# Seeds of both targets, from what the program ships and makes.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/job_file corpus/hdf5
convoke() { (cd .. && cargo run -q -- "$@"); }
for job in ../jobs/*/*.toml; do
    cp "$job" "corpus/job_file/$(basename "$job")"
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/job.toml" <<'JOB'
schema = 1
name = "seed"
workload = "tomography"
[run]
ranks = 1
[problem.phantom]
kind = "shepp-logan"
size = 4
angles = 3
[problem.method]
algorithm = "sirt"
iterations = 2
JOB
convoke run "$scratch/job.toml" --dir "$scratch/run" -q
cp "$scratch/run/result.h5" corpus/hdf5/
