#!/bin/sh
# Run the device suite under each interpreter of $WANTED that is installed, each in its own
# environment with the device packages alone. An interpreter that is not there is named.
set -eu
tests="not slow"
for version in ${WANTED:-3.10 3.12 3.13}; do
    python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null | tail -n 1)
    [ -n "$python" ] || python=$(command -v "python$version" || true)
    if [ -z "$python" ] || ! "$python" -c '' 2>/dev/null; then
        echo "device suite: Python $version is not installed here, left out"
        continue
    fi
    venv=.venv-$version
    if [ ! -e "$venv/done" ] || [ pyproject.toml -nt "$venv/done" ] || [ constraints.txt -nt "$venv/done" ]; then
        "$python" -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt \
            --editable '.[cpu,serve]' pytest pytest-timeout hypothesis jsonschema prometheus-client pytest-xdist
        touch "$venv/done"
    fi
    echo "device suite: $("$venv/bin/python" -c 'import sys, av, numpy, onnxruntime as o; print("Python", sys.version.split()[0], "av", av.__version__, "numpy", numpy.__version__, "onnxruntime", o.__version__)')"
    "$venv/bin/pytest" -q -n 2 -p no:cacheprovider --hypothesis-profile few -m "$tests" \
        tests/runtime tests/edge tests/test_architecture.py
    tests="not slow and not medium"  # the first one, the oldest, has run the longer ones for all
done
