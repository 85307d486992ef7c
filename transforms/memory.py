"""What long runs ask of Python's memory management."""

import gc


def keep_live_objects_out_of_the_garbage_collector() -> None:
    """Freeze what setup made and collect rarely: thousands of live records are no cycles, and walking them costs more
    than Beam does (benchmarks). Records and activities are `gc=False` structs; cycles are still collected."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
