from tests.lrs.server import lrs
from tests.pipeline.conftest import workshop

__all__ = ["lrs", "workshop"]
