#!/usr/bin/env bash
# niivue.sh: build/niivue/niivue.js, which `patchmask view --html` puts into its pages, and niivue.LICENSES.txt; made once,
# and again when tools/niivue/package-lock.json changes, whose hashes npm checks. npm comes from PyPI where there is none;
# PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
from=tools/niivue
to=build/niivue
[ $to/niivue.js -nt $from/package-lock.json ] && exit 0
mkdir -p $to
{
    command -v npm || tools/venv.sh $to/node $from/requirements.txt
    cp $from/package.json $from/package-lock.json $from/.npmrc $to/
    (cd $to && PATH=$PATH:$PWD/node/bin npm ci)
} >$to/log 2>&1 || {
    echo "missing: niivue, for \`patchmask view --html\`: npm could not fetch it; $to/log says why" >&2
    exit 1
}
packages=$to/node_modules
find $packages -iname 'license*' -printf '%P\n' | sort | while read -r file; do
    printf -- '\n---- %s\n\n' "${file%/*}"
    cat "$packages/$file"
done | cat <(printf -- '---- @niivue/niivue\n\n') $from/LICENSE - >$to/niivue.LICENSES.txt
cp $packages/@niivue/niivue/dist/niivue.umd.js $to/niivue.js
