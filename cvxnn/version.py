"""The version of the package, which everything may know and nothing else depends on.

Reference: hatch reads it from here, see pyproject.toml.
"""

__version__ = "0.1.0"
