#!/usr/bin/env bash
# Lint the Rego style if regal is there: regal.sh OLDEST_VERSION DIRECTORY. It is the one tool that is not built here.
set -euo pipefail

oldest=$1 directory=$2
if ! command -v regal >/dev/null; then
  echo "regal was not found, so the Rego style is not linted: put regal $oldest or newer on PATH to have it"
  exit 0
fi
found=$(regal version | sed -nE 's/^Version: +v?([0-9.]+).*/\1/p')
if [ -z "$found" ] || [ "$(printf '%s\n' "$oldest" "$found" | sort -V | head -n 1)" != "$oldest" ]; then
  echo "regal on PATH is '${found:-of an unknown version}', so the Rego style is not linted: put regal $oldest or newer on PATH"
  exit 0
fi
regal lint "$directory"
