"""One run of a command: how it is started and ended, what it leaves behind, and what outlives its pool."""
