#!/usr/bin/env bash
# One audit on a Cloud TPU slice, all of its workers. Creates the slice if there is none of that name, and uses it if there is.
# The same command again resumes, on a new slice if the old one was preempted.
#
#   TPU=audit ZONE=us-east5-b TYPE=v6e-64 SPOT=1 launch/tpu_pod.sh --config=configs/celeba_25k.py --workdir=gs://audits/celeba
#
# TPU      name of the slice and of its queued resource
# ZONE     where
# TYPE     accelerator type, such as v6e-64 (16 workers of 4 chips)
# RUNTIME  TPU VM image, default v2-alpha-tpuv6e
# SPOT     1: spot capacity, cheaper, taken away at any time
# REPO     what the workers clone
# REF      its branch, tag or commit, default main
# The slice is kept at the end, and costs money. To delete it:
#   gcloud compute tpus queued-resources delete "$TPU" --zone="$ZONE" --force
set -euo pipefail

for name in TPU ZONE TYPE REPO; do
  if [[ -z ${!name:-} ]]; then
    echo "error: $name is not set; see the head of $0" >&2
    exit 2
  fi
done
runtime=${RUNTIME:-v2-alpha-tpuv6e}
ref=${REF:-main}
spot=()
if [[ ${SPOT:-} == 1 ]]; then
  spot=(--spot)
fi

state() {
  gcloud compute tpus queued-resources describe "$TPU" --zone="$ZONE" --format="value(state.state)" 2>/dev/null || echo NONE
}

on_workers() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

# A request that failed, or whose slice was preempted, cannot be used again: it is deleted and made anew.
found=$(state)
if [[ $found == FAILED || $found == SUSPENDED ]]; then
  gcloud compute tpus queued-resources delete "$TPU" --zone="$ZONE" --force --quiet
  found=NONE
fi
if [[ $found == NONE ]]; then
  gcloud compute tpus queued-resources create "$TPU" --node-id="$TPU" --zone="$ZONE" --accelerator-type="$TYPE" \
    --runtime-version="$runtime" "${spot[@]}"
fi
until [[ $found == ACTIVE ]]; do
  if [[ $found == FAILED || $found == SUSPENDING || $found == SUSPENDED ]]; then
    echo "error: $TPU in $ZONE is $found; run this again" >&2
    exit 1
  fi
  sleep 30
  found=$(state)
  echo "$TPU: $found" >&2
done

source=$(printf %q "$REPO")
ref=$(printf %q "$ref")
on_workers "set -e; test -d side_jax || git clone -q $source side_jax; cd side_jax; git fetch -q origin $ref
git checkout -q FETCH_HEAD; test -d .venv || python3 -m venv .venv; .venv/bin/pip install -q '.[tpu]'"

# If the slice is preempted, this fails with its connection: run it again.
arguments=$(printf ' %q' "$@")
on_workers "cd side_jax && SIDE_JAX_DISTRIBUTED=auto .venv/bin/python main.py$arguments"
