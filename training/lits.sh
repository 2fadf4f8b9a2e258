#!/usr/bin/env bash
# The trainings that made ../models/liver-lesion.safetensors, from a folder of LiTS: NIfTI scans or stacks of pictures.
#
#     ./lits.sh LITS OUT [MINUTES]        MINUTES: of the last training (default 58); each fold takes half of them
#
# The demo model, which knows phantoms, goes on with real slices. Two folds of patients give the threshold; the last
# training takes all of both. Patients 4, 9, 15, 22 and 43 are set aside for the test at the end.
set -euo pipefail
lits=$(realpath "$1") out=$(realpath -m "$2") minutes=${3:-58}
cd "$(dirname "$0")"
test=4,9,15,22,43
train() {
    "${PYTHON:-python}" train.py "$lits" --leave-out $test --start ../examples/demo/model.safetensors --pixel-mm 1.5 \
        --window -40,160 --stride 2 --outside 0.1 --by-size 0.3 --turn 30 --zoom 0.75,1.33 --gain 0.12 --shift-hu 15 --noise-hu 8 \
        --blur 0.7 --mine 2000 --batch 64 --steps 100 --epochs 1000 --validate-every 1000 --learning-rate 5e-4 --dropout 0.3 \
        --average 0.998 "$@"
}
for fold in 1 2; do
    train --fold $fold/2 --minutes "$(awk "BEGIN { print $minutes / 2 }")" --out "$out/fold-$fold"
done
train --fold 0/2 --minutes "$minutes" --out "$out/all"
cp "$out/all/model.safetensors" "$out/liver-lesion.safetensors"
"${PYTHON:-python}" threshold.py "$out"/fold-{1,2}/scores.json --write "$out/liver-lesion.safetensors"
"${PYTHON:-python}" evaluate.py "$out/liver-lesion.safetensors" "$lits" --only $test --json "$out/test.json"
