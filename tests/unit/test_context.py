import pytest

from tigerflow import SetupContext
from tigerflow.errors import ContextFrozenError


def test_parameters_are_attributes_and_setup_may_change_them():
    context = SetupContext(model="small")

    context.model = context.model + "-v2"
    context.session = object()

    assert context.model == "small-v2"
    assert context.session is context.session


def test_a_frozen_context_refuses_to_set_in_the_words_users_know():
    context = SetupContext(greeting="Hello")
    context.freeze()

    with pytest.raises(AttributeError) as error:
        context.greeting = "Bye"

    assert str(error.value) == (
        "Cannot modify frozen SetupContext: tried to set 'greeting'"
    )
    assert context.greeting == "Hello"


def test_a_frozen_context_refuses_to_delete():
    context = SetupContext(greeting="Hello")
    context.freeze()

    with pytest.raises(ContextFrozenError) as error:
        del context.greeting

    assert str(error.value) == (
        "Cannot modify frozen SetupContext: tried to delete 'greeting'"
    )
    assert context.greeting == "Hello"


def test_freezing_is_shallow_so_that_run_may_use_what_setup_made():
    context = SetupContext()
    context.cache = {}
    context.freeze()

    context.cache["a"] = 1

    assert context.cache == {"a": 1}


def test_an_attribute_may_be_deleted_before_the_freeze():
    context = SetupContext(token="secret")

    del context.token

    assert not hasattr(context, "token")


def test_an_unknown_attribute_says_where_to_set_it():
    context = SetupContext()

    with pytest.raises(AttributeError) as error:
        context.modle  # noqa: B018 -- reading it is the point

    assert str(error.value) == (
        "SetupContext has no attribute 'modle'; "
        "set it in setup, or declare it in Params"
    )


def test_repr_has_names_but_no_values():
    context = SetupContext(token="secret", model="small")

    assert repr(context) == "SetupContext(model, token)"
