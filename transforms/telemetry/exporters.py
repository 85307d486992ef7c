"""OpenTelemetry's own exporters, as its variables choose them. Importing this imports its packages."""

import os
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)

from transforms.sinks.user_agent import installed_version
from transforms.telemetry.environment import Signal, TelemetryError, exporter_names

SERVICE = "session-forwarder"
"""The `service.name`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES names another."""

_instance = f"{os.uname().nodename}-{os.getpid()}"


def resource() -> Resource:
    """What all that this process exports is of."""
    # What the variables say comes last: Resource.create would have it overruled by what is given here.
    ours = Resource({SERVICE_NAME: SERVICE, SERVICE_VERSION: installed_version(), SERVICE_INSTANCE_ID: _instance})
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())


def exporters(signal: Signal) -> list[Any]:
    """The exporters of a signal that the variables ask for, each with its own settings from them.

    Raises:
        TelemetryError: one of them is not installed, or cannot be made.
    """
    made = []
    for name in exporter_names(signal, os.environ):
        found = entry_points(group=f"opentelemetry_{signal}_exporter", name=name)
        if not found:
            raise TelemetryError(
                f"OTEL_{signal.upper()}_EXPORTER: there is no exporter {name} here: use otlp or console"
            )
        try:
            made.append(next(iter(found)).load()())
        except (ImportError, ValueError) as error:
            raise TelemetryError(f"OTEL_{signal.upper()}_EXPORTER {name} cannot be used: {error}") from None
    return made
