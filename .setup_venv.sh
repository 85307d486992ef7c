# Sourced by run_local.sh, run_flink.sh and run_tests.sh: `. ./.setup_venv.sh EXTRA` makes .venv with the pinned set and activates it.
# PYTHON names the interpreter to use (default python3.11, else python3); VENV the directory.
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-$(command -v python3.11 || command -v python3)}
stamp="$VENV/.installed-$1"
if [ ! -f "$stamp" ] || [ setup.py -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Python 3.11 or newer is needed; set PYTHON to one." >&2
        exit 1
    }
    echo "Setting up $VENV (once; a few minutes) ..." >&2
    [ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$1]"
    touch "$stamp"
fi
. "$VENV/bin/activate"
