"""Conversations in time: turns, detectors, streams."""
