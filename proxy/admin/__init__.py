"""The admin listener: what the process tells of itself, and what an operator may change in it."""
