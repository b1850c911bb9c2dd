"""What `tigerflow_ml`'s embed-local calls of torch, which is too large to install."""


class cuda:  # noqa: N801 -- as it is called
    @staticmethod
    def is_available():
        return False


def manual_seed(seed):
    print(f"seed {seed}")
