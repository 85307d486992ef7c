"""The options of Beam that a job is started with."""

from typing import Any, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.options import Job

View = TypeVar("View", bound=PipelineOptions)


def beam_options(job: Job) -> PipelineOptions:
    """Beam's options, as the flags of a job say."""
    return _Options(list(job.beam_args), runner=job.runner)


class _Options(PipelineOptions):
    """Options that make each of their views once.

    A view shares its values with the options, so it is the same as a new one. But to make one is to declare and parse
    all of its flags, and Beam asks for some 400 of them to build and run a graph: a third of the time of a short run.
    """

    def view_as(self, cls: type[View]) -> View:
        """As Beam's."""
        # Not as an attribute: Beam's options take those for flags.
        views: dict[type[PipelineOptions], Any] = self.__dict__.setdefault("views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        view: View = views[cls]
        return view

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != "views"}
