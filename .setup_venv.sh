# Sourced by run_local.sh, run_flink.sh and run_tests.sh: `. ./.setup_venv.sh SET` makes .venv with the packages that
# requirements/SET.txt pins, and activates it. PYTHON names the interpreter to use (default python3.11, else python3);
# VENV the directory.
[ -n "${1:-}" ] && [ -f "requirements/$1.txt" ] || {
    echo "Name a set of packages, in the project's own folder: . ./.setup_venv.sh local (or test, registry, ...)" >&2
    return 1
}
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-$(command -v python3.11 || command -v python3)}
stamp="$VENV/.installed-$1"
if [ ! -f "$stamp" ] || [ -n "$(find setup.py pyproject.toml requirements -type f -newer "$stamp")" ]; then
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Python 3.11 or newer is needed; set PYTHON to one." >&2
        exit 1
    }
    echo "Setting up $VENV (once; a few minutes) ..." >&2
    [ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
    # What builds source packages comes first, so that pip fetches nothing for that by itself, unpinned. No file of the
    # project has a hash to compare, so that is installed last, without its dependencies.
    pip_install() { "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation "$@"; }
    pip_install --require-hashes -r requirements/build.txt
    pip_install --require-hashes -r "requirements/$1.txt"
    pip_install --no-deps --editable .
    touch "$stamp"
fi
. "$VENV/bin/activate"
