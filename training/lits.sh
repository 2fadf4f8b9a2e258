#!/usr/bin/env bash
# Trains a model for lesions of the liver, from a folder of LiTS: NIfTI scans or stacks of pictures.
#
#     ./lits.sh LITS OUT [IMAGENET]       OUT: not in LITS. IMAGENET: a file for train.py's --imagenet; else weights start at random
#
# Each of the four trainings took 8 minutes on an H200 that ran them at once; two CPU cores would take days for each.
# Two fifths of the patches are from copies of the scans with painted lesions, and from phantoms, which are made in OUT unless
# they are there. Two folds of patients give the threshold, and a training on both is tested on the patients in TEST, which are
# set aside until then. The model itself is a training on all patients.
# OPTIONS: more options of train.py, which override those below. PHANTOMS: how many.
set -euo pipefail
lits=$(realpath "$1") out=$(realpath -m "$2") imagenet=${3:+$(realpath "$3")}
cd "$(dirname "$0")"
test=${TEST:-9,15,22,39,43}
run() {
    "${PYTHON:-python}" "$@"
}
train() {
    # shellcheck disable=SC2086
    run train.py "$lits" --mix "$out/phantoms" --painted 4 --mix-share 0.4 ${imagenet:+--imagenet "$imagenet"} \
        --widths full --dense 256,128 --patch-size 96 --stride 2 --pixel-mm 1.5 --window -40,160 --outside 0.1 --by-size 0.3 \
        --flip --turn 30 --zoom 0.7,2 --gain 0.25 --shift-hu 30 --noise-hu 25 --blur 1.2 --mine 2000 \
        --batch 256 --steps 100 --epochs 55 --validate-every 55 --learning-rate 3e-4 --weight-decay 0.05 --dropout 0.5 \
        --average 0.997 ${OPTIONS:-} "$@"
}
if [ ! -d "$out/phantoms" ]; then
    run phantom.py "$out/unfinished" --count "${PHANTOMS:-36}" --first-seed 1 --vary-spacing 0.08
    mv "$out/unfinished" "$out/phantoms"
fi
for fold in 1 2; do
    train --leave-out "$test" --fold $fold/2 --out "$out/fold-$fold"
    held_out=$(run -c "import json; print(','.join(one['name'] for one in json.load(open('$out/fold-$fold/scores.json'))))")
    run evaluate.py "$out/fold-$fold/model.safetensors" "$lits" --only "$held_out" --fill linear --json "$out/fold-$fold.json"
done
train --leave-out "$test" --fold 0/2 --out "$out/tested"
train --fold 0/2 --out "$out/all"
cp "$out/all/model.safetensors" "$out/liver-lesion.safetensors"
for model in "$out/tested/model.safetensors" "$out/liver-lesion.safetensors"; do
    run threshold.py "$out"/fold-{1,2}.json --write "$model"
done
run evaluate.py "$out/tested/model.safetensors" "$lits" --only "$test" --fill linear --json "$out/test.json"
