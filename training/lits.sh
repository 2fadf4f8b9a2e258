#!/usr/bin/env bash
# Trains a model for lesions of the liver, from a folder of LiTS: NIfTI scans or stacks of pictures.
#
#     ./lits.sh LITS OUT [MINUTES]        MINUTES: of the last training (default 58); each fold takes half of them
#
# The demo model, which knows phantoms, goes on with real slices, and is then averaged with what it was. Two folds of
# patients give the threshold; the last training takes all of both. The patients in TEST are set aside for the end.
set -euo pipefail
lits=$(realpath "$1") out=$(realpath -m "$2") minutes=${3:-58}
cd "$(dirname "$0")"
test=${TEST:-9,15,22,39,43}
demo=../examples/demo/model.safetensors
run() {
    "${PYTHON:-python}" "$@"
}
train() {
    run train.py "$lits" --leave-out "$test" --start $demo --pixel-mm 1.5 \
        --window -40,160 --stride 2 --outside 0.1 --by-size 0.3 --turn 30 --zoom 0.7,2 --gain 0.12 --shift-hu 15 --noise-hu 8 \
        --blur 0.7 --mine 2000 --batch 64 --steps 100 --epochs 1000 --validate-every 1000 --learning-rate 5e-4 --dropout 0.3 \
        --average 0.998 "$@"
}
for fold in 1 2; do
    train --fold $fold/2 --minutes "$(awk "BEGIN { print $minutes / 2 }")" --out "$out/fold-$fold"
    run average.py "$out/fold-$fold/last.safetensors" $demo --out "$out/fold-$fold.safetensors"
    held_out=$(run -c "import json; print(','.join(one['name'] for one in json.load(open('$out/fold-$fold/scores.json'))))")
    run evaluate.py "$out/fold-$fold.safetensors" "$lits" --only "$held_out" --stride 4 --fill linear --json "$out/fold-$fold.json"
done
train --fold 0/2 --minutes "$minutes" --out "$out/all"
run average.py "$out/all/model.safetensors" $demo --out "$out/liver-lesion.safetensors"
run threshold.py "$out"/fold-{1,2}.json --write "$out/liver-lesion.safetensors"
run evaluate.py "$out/liver-lesion.safetensors" "$lits" --only "$test" --stride 4 --fill linear --json "$out/test.json"
