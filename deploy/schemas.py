#!/usr/bin/env python3
"""schemas.py ARCHIVE VERSION DIRECTORY: JSON Schemas, laid out for kubeconform, without a network.

With a version such as 1.31.0 those of Kubernetes: ARCHIVE is kubernetes-validate's wheel of PyPI. Its schemas refer to
each other by addresses at kubernetes.io, which kubeconform would fetch: here they refer to the files beside them.

With `flink` that of FlinkDeployment: ARCHIVE is the jar of the API of Flink's Kubernetes operator, which holds its
custom resource definitions. That takes PyYAML.
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


def closed(schema: Any) -> Any:
    """A schema that refuses fields which it does not name, as the server does when it is told to be strict."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    members = {name: closed(member) for name, member in schema.items()}
    is_open = members.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in members
    if isinstance(members.get("properties"), dict) and members.get("type") == "object" and not is_open:
        members["additionalProperties"] = False
    return members


def flink(jar: str, target: Path) -> None:
    """Write the schema of FlinkDeployment."""
    import yaml

    with ZipFile(jar) as archive:
        name = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
        (version,) = yaml.safe_load(archive.read(name))["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    # Which every object has, and no definition names.
    schema["properties"] |= {name: {} for name in ("apiVersion", "kind", "metadata")}
    target.mkdir(parents=True, exist_ok=True)
    (target / f"flinkdeployment-flink-{version['name']}.json").write_text(json.dumps(closed(schema)))


def main(archive: str, version: str, directory: str) -> None:
    if version == "flink":
        flink(archive, Path(directory))
    else:
        kubernetes(archive, version, directory)


def kubernetes(wheel: str, version: str, directory: str) -> None:
    """Write the schemas of a version of Kubernetes."""
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
