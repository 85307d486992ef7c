"""The tracing of this process, if the `OTEL_*` variables ask for one. Without them OpenTelemetry is not imported."""

import logging
import os
import threading
from functools import cache
from typing import TYPE_CHECKING

from transforms.telemetry.environment import TelemetryError, asks_for, has_packages

if TYPE_CHECKING:
    from transforms.telemetry.spans import Tracing

logger = logging.getLogger(__name__)
_opening = threading.Lock()


def tracing() -> "Tracing | None":
    """What takes the spans of this process; None if they are not asked for, or cannot be had. That is logged, once."""
    if not asks_for("traces", os.environ):
        return None
    with _opening:
        return _opened()


@cache
def _opened() -> "Tracing | None":
    if not has_packages():
        return None
    from transforms.telemetry.spans import open_tracing

    try:
        return open_tracing()
    except TelemetryError as error:
        logger.warning("%s; the run goes on without traces", error)
        return None
