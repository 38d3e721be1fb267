"""Kimi-Audio's published folder, read as it was downloaded.

| file | what it knows |
|---|---|
| `folder.py` | where things lie |
| `configuration.py` | the names of their sizes |
| `weight_names.py` | the names of their weights |
| `weights.py` | how weights are read from disk |
| `text_tokenizer.py` | the vocabulary, as a fast tokenizer |
| `reader.py` | all of it put together |
| `auto.py` | the same for transformers' Auto classes |
| `conversion.py` | how our layout is written |

Source: moonshotai/Kimi-Audio-7B-Instruct and zai-org/glm-4-voice-tokenizer, as described by their public code.
"""
