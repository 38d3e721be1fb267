"""Speech tokenizer: wav (16 kHz) -> codes and continuous features (12.5 Hz)."""
