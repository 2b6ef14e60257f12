#!/usr/bin/env bash
# One audit by several processes on this machine. The same command again resumes.
#
#   launch/local_processes.sh 4 --config=configs/orl.py --workdir=runs/orl
#
# The first argument is the number of processes, the rest goes to main.py. SIGTERM and SIGINT reach every process. The exit
# status is 0 if all processes end with 0, and 75 if some were stopped by SIGTERM; else that of the first that failed, and the
# others are ended.
# PYTHON chooses the interpreter, SIDE_JAX_PORT the coordinator's port. GPUs: give each process its own, with
# JAX_LOCAL_DEVICE_IDS in a wrapper; on CPU, every process has all cores.
set -euo pipefail

if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 NUM_PROCESSES --config=… --workdir=…; NUM_PROCESSES must be 1 or more, got '${1:-}'" >&2
  exit 2
fi
count=$1
shift
main="$(dirname "$(dirname "$(readlink -f "$0")")")/main.py"
python=${PYTHON:-python}
port=${SIDE_JAX_PORT:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

pids=()
# shellcheck disable=SC2329 # the traps call it
forward() {
  kill "-$1" "${pids[@]}" 2>/dev/null || true
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward KILL' EXIT

# Without job control, as scripts are, bash would start the processes with SIGINT ignored.
set -m
for ((process = 0; process < count; process++)); do
  SIDE_JAX_COORDINATOR="127.0.0.1:$port" SIDE_JAX_NUM_PROCESSES=$count SIDE_JAX_PROCESS_ID=$process \
    "$python" "$main" "$@" &
  pids+=($!)
done

# `wait -n` also returns, above 128, when a trapped signal arrives: only a process that is gone counts.
running=("${pids[@]}")
ended=0
while ((${#running[@]})); do
  wait -n "${running[@]}" || true
  alive=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      alive+=("$pid")
      continue
    fi
    status=0
    wait "$pid" || status=$?
    if ((status == 75)); then
      ended=75 # the others stop too, and may have something to write yet
    elif ((status != 0)); then
      exit "$status" # the trap on EXIT ends the others
    fi
  done
  running=("${alive[@]}")
done
exit "$ended"
