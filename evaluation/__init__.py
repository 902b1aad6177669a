"""The examiner: replays annotated streams and scores what was said and when."""
