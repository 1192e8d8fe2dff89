"""What only the operating system can answer: `platform` is the module with this system's answers, `clock` tells time."""

from aqueue.system import posix as platform

__all__ = ["platform"]
