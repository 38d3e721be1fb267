"""Sound: files, samples, mel spectrograms, where speech is."""
