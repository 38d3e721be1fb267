"""Messages, texts and recordings as the two streams of a prompt."""
