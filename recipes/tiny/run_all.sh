#!/usr/bin/env bash
# Train spikeaudio-tiny from nothing. Every stage resumes where it was stopped; a finished stage is skipped. Stages that do not need each
# other run side by side, one thread each: two single-threaded processes beat one with two threads.
# The step counts are those of the shipped checkpoint; more of the tokenizer pays most. SCALE shrinks corpus and steps alike, to try
# every stage.
#   [SCALE=0.01] recipes/tiny/run_all.sh DATA WORK CHECKPOINT        (engines first: recipes/tiny/install_engines.sh)
# About six hours on two cores: the stages' own times in the checkpoint's card, added up.
set -euo pipefail
data=$1 work=$2 out=$3
here=$(dirname "$0")
export OMP_NUM_THREADS=1
mkdir -p "$work/done" "$out"

steps() { # steps N : that many, scaled
  python -c "print(max(20, round($1 * ${SCALE:-1})))"
}

stage() { # stage NAME COMMAND... : run once
  local name=$1
  shift
  [ -e "$work/done/$name" ] && return
  echo "== $name"
  "$@"
  touch "$work/done/$name"
}

both_cores=(env ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 --)

stage corpus python "$here/make_corpus.py" --data "$data" --corpus "$work/corpus" --scale "${SCALE:-1}" --music-clips "$(steps 9000)" --noise-clips "$(steps 720)"
stage vocoder python "$here/train_vocoder.py" --corpus "$work/corpus" --run "$work/vocoder" --steps "$(steps 4000)" --export "$out/vocoder" &
beside=$!
stage shallow python "$here/train_tokenizer.py" --corpus "$work/corpus" --run "$work/shallow" --layers 2 --steps "$(steps 2700)" --holdout-speaker theo --export "$work/shallow/export"
wait "$beside"
stage tokenizer "${both_cores[@]}" "$here/train_tokenizer.py" --corpus "$work/corpus" --run "$work/tokenizer" --grow-from "$work/shallow" --learning-rate 8e-4 --steps "$(steps 9500)" --holdout-speaker theo --export "$out/speech_tokenizer"
stage encode python "$here/encode_corpus.py" --corpus "$work/corpus" --tokenizer "$out/speech_tokenizer" --workers 2
stage text python "$here/train_text_tokenizer.py" --corpus "$work/corpus" --out "$work/text"
stage detokenizer python "$here/train_detokenizer.py" --corpus "$work/corpus" --tokenizer "$out/speech_tokenizer" --run "$work/detokenizer" --voice rh_bdl --steps "$(steps 4950)" --export "$out/detokenizer" &
beside=$!
stage lm python "$here/train_lm.py" --corpus "$work/corpus" --text-tokenizer "$work/text" --tokenizer "$out/speech_tokenizer" --run "$work/lm" --steps "$(steps 10800)" --export "$out"
wait "$beside"
echo "checkpoint in $out; measure it: python -m eval.tiny_floors --model $out --corpus $work/corpus"
