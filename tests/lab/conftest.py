"""Makes the lab's fixtures known to its own tests."""

from tests.lab.fixtures import lab, vim

__all__ = ["lab", "vim"]
