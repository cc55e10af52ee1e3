from tests.emulator.conftest import bench

__all__ = ["bench"]
