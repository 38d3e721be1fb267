"""Kimi-Audio's published folder, read as it was downloaded.

`folder.py` says where things lie, `configuration.py` what their sizes are called, `weight_names.py` what their weights
are called, `weights.py` how they are read from disk; `text_tokenizer.py` makes a fast tokenizer of the vocabulary.
`reader.py` puts these together, `auto.py` does so for transformers' Auto classes, `conversion.py` writes our layout.

Source: moonshotai/Kimi-Audio-7B-Instruct and zai-org/glm-4-voice-tokenizer, as described by their public code.
"""
