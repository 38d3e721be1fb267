"""The speaking side: codes to sound, reading aloud, streams of events."""
