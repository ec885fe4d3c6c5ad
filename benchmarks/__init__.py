"""Peers side by side: every run judged by our certificate arithmetic, none by its own word.

See benchmarks/README.md for the protocol. Nothing here is part of the installed package.
"""
