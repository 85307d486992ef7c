#!/usr/bin/env python3
"""schemas.py WHEEL VERSION DIRECTORY: the JSON Schemas of Kubernetes, laid out for kubeconform, without a network.

WHEEL is kubernetes-validate's of PyPI, which has them. Its schemas refer to each other by addresses at kubernetes.io,
which kubeconform would fetch: here they refer to the files beside them.
"""

import json
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

DEFINITIONS = "_definitions.json"


def local(value: Any, name: str) -> Any:
    """A schema of the file `name` that refers to files beside it."""
    if isinstance(value, list):
        return [local(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    members = {key: local(member, name) for key, member in value.items() if key != "$id" or not isinstance(member, str)}
    if isinstance(reference := value.get("$ref"), str):
        file, _, place = reference.rpartition("#")
        members["$ref"] = f"{'' if name == DEFINITIONS or not file else DEFINITIONS}#{place}"
    return members


def main(wheel: str, version: str, directory: str) -> None:
    prefix = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(prefix) and name.endswith(".json")]
        for path in names:
            name = path.removeprefix(prefix)
            (target / name).write_text(json.dumps(local(json.loads(archive.read(path)), name)))
    if not names:
        sys.exit(f"{wheel} has no schemas of Kubernetes {version}")


if __name__ == "__main__":
    main(*sys.argv[1:])
