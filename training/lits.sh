#!/usr/bin/env bash
# The trainings that made ../models/liver-lesion.safetensors, from a folder of LiTS: NIfTI scans or stacks of pictures.
#
#     ./lits.sh LITS OUT [MINUTES]
#
# The demo model, which knows phantoms, goes on with real slices: on crops first, then patch by patch. Two folds give the
# threshold; the last training takes all patients but the five that are set aside for the test.
set -euo pipefail
