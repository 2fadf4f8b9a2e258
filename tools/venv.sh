#!/usr/bin/env bash
# venv.sh FOLDER REQUIREMENTS: a Python environment with these packages; made once, and again when the
# list changes. PYTHON names the interpreter.
set -eu
folder=$1
requirements=$2
stamp=$folder/$(echo "$requirements" | tr / _).installed
cmp -s "$requirements" "$stamp" && exit 0
if [ ! -x "$folder/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$folder" || {
        echo "missing: Python's venv. Install it with: sudo apt-get install -y python3-venv"
        exit 1
    }
fi
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$stamp"
