"""What bash and zsh complete."""

import shutil
import subprocess
from pathlib import Path

import pytest

from commands.command import VERBS, main


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Path:
    """The script for the shell that a test names."""
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    path = tmp_path / "_session-forwarder"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_verbs_flags_and_values(script: Path) -> None:
    asked = {
        "session-forwarder ''": {verb.name for verb in VERBS},
        "session-forwarder show le": {"letters"},
        "session-forwarder run --out": {"--output", "--outage_budget"},
        "session-forwarder run --kind ''": {"event", "status", "score", "statement"},
        "session-forwarder show letters --rea": {"--reason"},
    }
    for words, expected in asked.items():
        code = (
            f"source {script}\nCOMP_WORDS=({words})\nCOMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n"
            "name=$(complete -p session-forwarder | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
            '$name\nprintf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, timeout=20)  # noqa: S603, S607
        assert set(done.stdout.split()) == expected, words


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_takes_the_script(script: Path) -> None:
    code = (
        f"fpath=({script.parent} $fpath); autoload -Uz compinit; compinit -u -D; print ${{_comps[session-forwarder]}}"
    )
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True, timeout=20)  # noqa: S603, S607
    assert done.stdout.split() == ["_session-forwarder"]
    subprocess.run(["zsh", "-n", str(script)], check=True, timeout=20)  # noqa: S603, S607
