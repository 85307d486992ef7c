from tests.lrs.server import lrs

__all__ = ["lrs"]
