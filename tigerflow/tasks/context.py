"""`SetupContext`: what `setup` prepares and `run` reads."""

from typing import Any

from tigerflow.errors import ContextFrozenError

#: Names of params that would hide the context's own attributes.
RESERVED_ATTRIBUTES = frozenset({"freeze", "_frozen"})


class SetupContext:
    """A namespace that `setup` fills, and that is read-only afterwards.

    The task's parameters are attributes before `setup` runs, and `setup` may change
    them. After `setup`, setting or deleting an attribute raises. `run` may still change
    the objects inside.
    """

    def __init__(self, **params: Any) -> None:
        """Start with the task's parameters as attributes."""
        for name, value in params.items():
            setattr(self, name, value)

    def freeze(self) -> None:
        """Turn every later change of an attribute into an error."""
        object.__setattr__(self, "_frozen", True)

    def __getattr__(self, name: str) -> Any:
        # Called only for missing attributes. It is typed so that editors and mypy
        # accept any name that a task uses.
        msg = (
            f"SetupContext has no attribute {name!r}; "
            "set it in setup, or declare it in Params"
        )
        raise AttributeError(msg)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_frozen" in self.__dict__:
            raise ContextFrozenError("set", name)  # noqa: EM101 -- a verb, no message
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if "_frozen" in self.__dict__:
            raise ContextFrozenError("delete", name)  # noqa: EM101 -- see above
        object.__delattr__(self, name)

    def __repr__(self) -> str:
        return f"SetupContext({', '.join(sorted(self.__dict__))})"
