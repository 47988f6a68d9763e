#!/bin/sh
# Trains on a large simulated log and scores everybody under a bound of memory.
#
#   sh benches/peers/scale.sh [CUSTOMERS] [ORDERS] [MEMORY_MB] [DIRECTORY] [FAMILY]
#
# Prints seconds, CPU seconds and the largest resident set of each step (GNU time).
set -e
customers=${1:-5000000} orders=${2:-10} memory=${3:-1200} directory=${4:-$(mktemp -d)}
family=${5:-gaussian_mixture}
habitus=${HABITUS:-$(dirname "$0")/../../target/release/habitus}
export HABITUS_SEGMENTS__FAMILY="$family"
step() {
    name=$1
    shift
    /usr/bin/time -f "$name: %e s, %U + %S CPU s, %M KB" "$habitus" --quiet "$@" > /dev/null
}
step simulate simulate --customers "$customers" --orders "$orders" --purchases-only \
    --out "$directory/log.parquet"
step train train --memory-mb "$memory" --config "$(dirname "$0")/simulated.toml" --name scale \
    --events "$directory/log.parquet" --models "$directory/models"
step score score --memory-mb "$memory" --events "$directory/log.parquet" \
    --models "$directory/models" --out "$directory/scores.parquet"
ls -l "$directory"
