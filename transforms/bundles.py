"""What steps share: the size of a batch of records, and how elements leave at the end of a bundle."""

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

BATCH_SIZE = 512
"""About how many records travel as one element: a runner's cost is for each element (docs/beam-notes.md section 2)."""

_END_OF_TIME = GlobalWindow().max_timestamp()


def at_end_of_bundle(element: object) -> WindowedValue:
    """`element` in the form in which `finish_bundle` has to yield it, by itself or in a TaggedOutput.

    What `process` yields has the time and the window of the element that is processed. At the end of a bundle there is
    no such element, so Beam asks for both. The window is the global one, which is the only one here, and the time is
    its end.
    """
    return WindowedValue(element, _END_OF_TIME, (GlobalWindow(),))
