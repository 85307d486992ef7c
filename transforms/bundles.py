"""How a step gives elements at the end of a bundle."""

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

_END_OF_TIME = GlobalWindow().max_timestamp()


def at_end_of_bundle(element: object) -> WindowedValue:
    """`element` as `finish_bundle` yields it, or puts it into a TaggedOutput.

    What `process` yields takes its time and window from the element that is processed. At the end of a bundle there is
    none, so Beam wants both: the only window is the global one, and the time is its end.
    """
    return WindowedValue(element, _END_OF_TIME, (GlobalWindow(),))
