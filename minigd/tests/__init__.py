"""A smoke test of an installation: `python -m pytest --pyargs minigd` takes a few seconds.

It may import all of minigd, and nothing imports it. The tests of each part are in `tests/`, beside
the package. Start with `test_smoke.py`.
"""
