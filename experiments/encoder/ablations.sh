#!/usr/bin/env bash
# What each part of the recipe brings: short runs of equal length, each without one part, scored on development data.
#   experiments/encoder/ablations.sh OPEN_DATA WORK [VARIANT...]     results: WORK/VARIANT-{lay,quaero}.json
set -euo pipefail
open=$1 work=$2
shift 2
steps="--set training.steps=${STEPS:-150} --set training.warmup_steps=40 --set training.average_decay=0.97"
declare -A variants=(
  [all]="--set training.neighbours_from=100"
  [no-neighbours]="--set training.neighbours_from=null"
  [no-translated-embeddings]="--set training.neighbours_from=100 --set translated_embeddings=false"
  [no-translation]="--set training.neighbours_from=100 --set training.mixture.translation=0"
  [no-synonyms]="--set training.neighbours_from=null --set training.mixture.synonyms=0"
  [no-glosses]="--set training.neighbours_from=100 --set training.mixture.glosses=0"
  [no-grades-no-sets]="--set training.neighbours_from=100 --set training.mixture.grades=0 --set training.mixture.sets=0"
)
mkdir -p "$work"
for name in "${@:-${!variants[@]}}"; do
  run=$work/$name
  mkdir -p "$run/work"
  for file in teacher.npz tokenizer.json embeddings.npy; do # made once, the same for all runs
    [[ -e $work/$file && ! ($name == no-translated-embeddings && $file == embeddings.npy) ]] && cp -n "$work/$file" "$run/work/"
  done
  # shellcheck disable=SC2086 # options are words
  deft pretrain --work "$run/work" --out "$run/model" $steps ${variants[$name]}
  deft index build --umls "$open/umls_open" --encoder "$run/model" --out "$run/index" --language FRE --language ENG
  deft evaluate mapping --gold "$open/lay/lay_terms_dev.tsv" --query-column lay --cui-column cuis --where part=dev \
    --index "$run/index" --channel dense --no-baseline --output "$work/$name-lay.json"
  deft evaluate mapping --gold "$open/quaero/dev.tsv" --query-column mention --cui-column cui \
    --index "$run/index" --channel dense --no-baseline --output "$work/$name-quaero.json"
  for file in teacher.npz tokenizer.json; do cp -n "$run/work/$file" "$work/"; done
  [[ $name == no-translated-embeddings ]] || cp -n "$run/work/embeddings.npy" "$work/"
  rm -r "$run/index" "$run/work"
done
