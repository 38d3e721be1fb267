"""Where a run lies on disk, and in which form.

    RUN/record.json              model, suite, tasks, seed, versions, commit, checksums; written first
    RUN/samples.jsonl            {"task": name, "job": ..., "metrics": [...], "language": ..., "sample": {...}} per line
    RUN/predictions-RANK.jsonl   append-only, one `Prediction` per line; a broken last line is ignored
    RUN/audio/DIGEST.flac        what was said, named by the SHA-256 of its samples
    RUN/scores.json              by `score`: figures with intervals, per-sample scores; written whole or not at all
    RUN/judgements.jsonl         append-only: what judges heard or said, by judge and key

Scoring needs nothing but this folder and the recordings that samples name: by the path that the user gave, or relative
to the folder that the run was started in where they lie below it.
"""

FORMAT = 1  # of all files; another one is refused by name
