"""A model that is no more than a table: how often each letter is in a text."""

import numpy as np


class SentenceTransformer:
    def __init__(self, model, device, **options):
        print(f"loads {model} on {device}, fetching: {not options['local_files_only']}")

    def get_embedding_dimension(self):
        return 26

    def encode(self, text, *, truncate_dim=26, **_):
        letters = [chr(ord("a") + number) for number in range(truncate_dim)]
        return np.array([text.count(letter) for letter in letters], dtype=np.float32)
