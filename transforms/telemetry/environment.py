"""What the standard variables of OpenTelemetry ask for. It imports nothing of OpenTelemetry.

The variables are those of https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables and of its
OTLP exporter. Those that are not named here are read by OpenTelemetry's own packages.
"""

import logging
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Literal

logger = logging.getLogger(__name__)

Signal = Literal["metrics", "traces"]

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_DEFAULT_PROTOCOL = "http/protobuf"
_NO_EXPORTER = "none"
_OTLP = "otlp"


class TelemetryError(ValueError):
    """The variables ask for something that is not there. The text says which one, and what to do."""


def asks_for(signal: Signal, environment: Mapping[str, str]) -> bool:
    """Whether the variables ask for a signal to be exported: an exporter or an endpoint of it is named."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporters := _exporters(signal, environment):
        return exporters != [_NO_EXPORTER]
    return any(
        environment.get(name, "").strip() for name in (_ENDPOINT, f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    )


@cache
def has_packages() -> bool:
    """Whether OpenTelemetry's packages are installed. That they are not is logged, once a process."""
    if all(map(_is_there, ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))):
        return True
    logger.warning(
        "OTEL_* variables ask for OpenTelemetry, and its packages are not installed: the run goes on without; "
        "pip install 'session-forwarder[otel]', or set OTEL_SDK_DISABLED=true"
    )
    return False


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def exporter_names(signal: Signal, environment: Mapping[str, str]) -> list[str]:
    """The entry points of the exporters that are asked for, in the groups of OpenTelemetry's packages.

    Raises:
        TelemetryError: the protocol of OTLP is one that OpenTelemetry's packages for Python do not speak.
    """
    names = [name for name in _exporters(signal, environment) or [_OTLP] if name != _NO_EXPORTER]
    return [_of_protocol(signal, environment) if name == _OTLP else name for name in names]


def _of_protocol(signal: Signal, environment: Mapping[str, str]) -> str:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(variable, "").strip()
        if not protocol:
            continue
        if protocol not in _PROTOCOLS:
            raise TelemetryError(f"{variable} {protocol}: use {' or '.join(_PROTOCOLS)}")
        return _PROTOCOLS[protocol]
    return _PROTOCOLS[_DEFAULT_PROTOCOL]


def _exporters(signal: Signal, environment: Mapping[str, str]) -> list[str]:
    named = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "").lower()
    return [name.strip() for name in named.split(",") if name.strip()]
