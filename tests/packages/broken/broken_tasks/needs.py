import no_such_library  # noqa: F401 - that it fails is the point
