"""Training: one resumable loop and the objectives of each part of the model."""
