"""Fixtures of the tiny recipe."""

from tests.fixtures.tiny_corpus import corpus, examples  # noqa: F401 (fixtures)
