import dataclasses
import datetime as dt
import enum
import uuid
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Optional

import pydantic
import pytest
import typer

from tigerflow.errors import ParamError, ReservedParamError
from tigerflow.tasks import LocalAsyncTask, LocalTask, SlurmTask, param_values
from tigerflow.tasks.fields import FieldDescription, build_command, describe_fields
from tigerflow.tasks.param_values import record_texts
from tigerflow.tasks.params import read_fields
from tigerflow.tasks.places import Places

NOTHING = object()

#: With paths as they are written.
convert = partial(param_values.convert, places=Places(Path()))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.StrEnum):
    BIG = "big"


def params_class(annotation, default=NOTHING, name="x"):
    members = {"__annotations__": {name: annotation}, "__module__": __name__}
    if default is not NOTHING:
        members[name] = default
    return type("Params", (), members)


def fields_of(annotation, default=NOTHING, name="x"):
    return read_fields("T", params_class(annotation, default, name), ())


def converted(annotation, text, default=NOTHING):
    """What the pipeline file's `x: text` becomes; a mistake fails the test."""
    values, mistakes = convert(fields_of(annotation, default), {"x": text})
    assert mistakes == {}
    return values["x"]


def mistake(annotation, text=NOTHING, default=NOTHING):
    texts = {} if text is NOTHING else {"x": text}
    _, mistakes = convert(fields_of(annotation, default), texts)
    return mistakes["x"]


def parsed(annotation, *words, default=NOTHING):
    """What the words of a command line become."""
    fields = fields_of(annotation, default)
    command = build_command([field.parameter for field in fields], lambda **all_: all_)
    return command.main(list(words), standalone_mode=False)["x"]


TYPES = [
    pytest.param(str, "a b", "a b", id="str"),
    pytest.param(int, "-3", -3, id="int"),
    pytest.param(float, "1e-07", 1e-07, id="float"),
    pytest.param(Path, "some/where", Path("some/where"), id="path"),
    pytest.param(Colour, "blue", Colour.BLUE, id="enum"),
    pytest.param(Size, "big", Size.BIG, id="str enum"),
    pytest.param(Literal["a", "b"], "b", "b", id="literal"),
    pytest.param(
        dt.datetime,
        "2024-01-02T03:04:05",
        dt.datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001 -- Typer's have no zone
        id="datetime",
    ),
    pytest.param(uuid.UUID, str(uuid.UUID(int=7)), uuid.UUID(int=7), id="uuid"),
    pytest.param(Optional[int], "3", 3, id="optional"),  # noqa: UP045 -- users write it
    pytest.param(int | None, "3", 3, id="or none"),
    pytest.param(list[str], ["a", "b c"], ["a", "b c"], id="list"),
    pytest.param(list[int], ["1", "-2"], [1, -2], id="list of int"),
    pytest.param(list[Path], ["a"], [Path("a")], id="list of path"),
    pytest.param(list[str] | None, ["a"], ["a"], id="list or none"),
    pytest.param(tuple[int, str], ["-1", "-x"], (-1, "-x"), id="tuple"),
]


@pytest.mark.parametrize("annotated", [False, True], ids=["bare", "annotated"])
@pytest.mark.parametrize(("annotation", "text", "value"), TYPES)
def test_a_required_value_of_every_type_is_read_from_text(
    annotation,
    text,
    value,
    annotated,
):
    if annotated:
        annotation = Annotated[annotation, typer.Option(help="It matters")]

    assert converted(annotation, text) == value
    assert mistake(annotation) == "is required; give it a value"


@pytest.mark.parametrize(("annotation", "text", "value"), TYPES)
def test_a_default_of_every_type_is_used_when_nothing_is_given(annotation, text, value):
    fields = fields_of(annotation, value)

    assert convert(fields, {}) == ({"x": value}, {})
    assert convert(fields, {"x": text}) == ({"x": value}, {})


@pytest.mark.parametrize(("annotation", "text", "value"), TYPES)
def test_the_command_line_reads_the_same_value(annotation, text, value):
    words = [text] if isinstance(text, str) else text
    if isinstance(value, tuple):
        words = ["--x", *words]
    else:
        words = [f"--x={word}" for word in words]

    assert parsed(annotation, *words) == value


def test_an_optional_value_without_default_is_none_when_its_default_says_so():
    assert converted(int | None, None, default=None) is None
    assert parsed(int | None, default=None) is None


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (str | None, "en"),
        (Optional[int], 3),  # noqa: UP045 -- users write it
        (int | None, 0),
        (float | None, 0.5),
        (bool | None, True),
        (Path | None, Path("models")),
        (Colour | None, Colour.RED),
        (list[str] | None, ["a"]),
        (tuple[int, str] | None, (1, "a")),
        (Annotated[int | None, typer.Option("-n", "--many")], 3),
        (Annotated[Path | None, typer.Option(exists=True)], Path("/")),
        (str | None, typer.Option("en", "--language")),
        (Annotated[str | None, typer.Option(default_factory=lambda: "en")], NOTHING),
        (Annotated[str | None, typer.Option(envvar="HOME")], "en"),
        (str, None),
    ],
)
def test_a_null_is_none_where_that_is_allowed_whatever_the_default(annotation, default):
    assert converted(annotation, None, default=default) is None


@pytest.mark.parametrize(
    ("annotation", "default", "shown"),
    [
        (str, "en", " (en)"),
        (int, 3, " (3)"),
        (bool, True, " (True)"),
        (list[str], ["a", "b"], " (a b)"),
        (str, typer.Option("en"), " (en)"),
        (Annotated[str, typer.Option(default_factory=lambda: "en")], NOTHING, ""),
    ],
)
def test_a_null_is_a_mistake_where_only_the_default_could_be_meant(
    annotation, default, shown
):
    assert mistake(annotation, None, default=default) == (
        f"cannot be null; leave it out to use the default{shown}"
    )


def test_params_may_be_a_dataclass_with_factories():
    @dataclasses.dataclass
    class Params:
        size: int
        names: list[str] = dataclasses.field(default_factory=lambda: ["a"])
        share: float = dataclasses.field(default=0.5)
        _: dataclasses.KW_ONLY
        model: str = "small"

    values, mistakes = convert(read_fields("T", Params, ()), {"size": "1"})

    assert values == {"size": 1, "names": ["a"], "share": 0.5, "model": "small"}
    assert mistakes == {}


def test_a_field_with_a_factory_needs_no_dataclass():
    default = dataclasses.field(default_factory=lambda: ["a"])

    assert convert(fields_of(list[str], default), {}) == ({"x": ["a"]}, {})
    assert converted(list[str], ["b"], default=default) == ["b"]


def test_class_variables_are_not_params():
    class Params:
        limit: ClassVar[int] = 3
        kinds: ClassVar = ("a", "b")
        size: int = 1

    assert [field.name for field in read_fields("T", Params, ())] == ["size"]


def test_models_of_other_libraries_are_refused():
    class Model(pydantic.BaseModel):
        size: int = pydantic.Field(3, ge=1)

    class Tuple(NamedTuple):
        size: int = 3

    for params_, name in ((Model, "a pydantic model"), (Tuple, "a NamedTuple")):
        with pytest.raises(ParamError) as error:
            read_fields("T", params_, ())
        assert str(error.value) == (
            f"T.Params is {name}; write a plain class or a dataclass, with limits as "
            "'Annotated[int, typer.Option(min=1)]'"
        )


def test_a_null_for_a_required_value_is_a_mistake():
    assert mistake(str, None) == "is required; give it a value"
    assert mistake(list[int], None) == "is required; give it a value"


def test_a_callback_is_called_with_a_null():
    option = typer.Option(callback=lambda value: f"got {value}")

    assert converted(Annotated[str | None, option], None, default="en") == "got None"


@pytest.mark.parametrize(
    ("annotation", "key", "text", "value"),
    [
        (bool, "no_cache", "true", False),
        (bool, "no-cache", "false", True),
        (bool | None, "no_cache", "yes", False),
        (Annotated[bool, typer.Option("--fast/--slow")], "slow", "true", False),
        (Annotated[bool, typer.Option("--fast/--slow")], "fast", "true", True),
        (Annotated[bool, typer.Option("--no-cache")], "no_cache", "true", True),
        (bool, "cache", "true", True),
    ],
)
@pytest.mark.parametrize("default", [True, False])
def test_a_key_may_be_the_name_of_the_opposite_flag(
    annotation, key, text, value, default
):
    fields = fields_of(annotation, default, name="cache")

    assert convert(fields, {key: text}) == ({"cache": value}, {})
    assert convert(fields, {key: "maybe"})[1] == {
        key: "expected true or false, found 'maybe'"
    }


@pytest.mark.parametrize("key", ["n_words", "n-words", "words"])
def test_a_key_may_be_the_name_of_the_option(key):
    fields = fields_of(Annotated[int, typer.Option("--n-words", "-n")], name="words")

    assert convert(fields, {key: "3"}) == ({"words": 3}, {})
    assert convert(fields, {"words": "3", "n_words": "4"}) == (
        {"words": 3},
        {"n_words": "is given twice, also as 'words'"},
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-x",
        "--help",
        "--",
        "a=b",
        'it\'s "q" $HOME $(x) `y` \\ é',
        "two\nlines",
        "null",
        "\udcff",
    ],
)
def test_a_text_arrives_unchanged_whatever_is_in_it(text):
    assert converted(str, text) == text
    assert converted(Annotated[str, typer.Option("-m")], text) == text
    assert converted(list[str], [text, text]) == [text, text]


def test_a_list_may_be_given_as_one_value():
    assert converted(list[str], "a") == ["a"]


def test_an_empty_list_replaces_the_default_one():
    assert converted(list[str], [], default=["a"]) == []
    assert converted(list[str] | None, [], default=None) == []
    assert mistake(list[str], []) == "is required; give it a value"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("Yes", True), ("1", True), ("false", False), ("off", False)],
)
@pytest.mark.parametrize(
    "annotation",
    [
        bool,
        bool | None,
        Annotated[bool, typer.Option("--x")],
        Annotated[bool, typer.Option("--x/--no-x")],
        Annotated[bool, typer.Option("--fast/--slow")],
        Annotated[bool, typer.Option("--x/-X")],
    ],
)
@pytest.mark.parametrize("default", [True, False])
def test_a_flag_is_switched_on_and_off_whatever_its_default_and_its_names(
    annotation,
    default,
    text,
    value,
):
    assert converted(annotation, text, default=default) is value
    assert convert(fields_of(annotation, default), {}) == ({"x": default}, {})


def test_a_flag_takes_nothing_but_true_and_false():
    assert mistake(bool, "maybe", default=False) == (
        "expected true or false, found 'maybe'"
    )
    assert mistake(bool, ["true"], default=False) == (
        "expected true or false, found ['true']"
    )


def test_flags_of_the_command_line_come_in_pairs_or_as_named():
    assert parsed(bool, "--no-x", default=True) is False
    assert parsed(bool, "--x") is True
    only = Annotated[bool, typer.Option("--uppercase")]
    assert parsed(only, "--uppercase", default=False) is True
    pair = Annotated[bool, typer.Option("--fast/--slow")]
    assert parsed(pair, "--slow", default=True) is False


def test_a_counted_option_takes_its_count():
    counted = Annotated[int, typer.Option("-v", "--verbose", count=True)]

    assert converted(counted, "3", default=0) == 3
    assert parsed(counted, "-vvv", default=0) == 3


def test_keys_may_be_written_with_hyphens_or_underscores():
    fields = fields_of(int, name="batch_size")

    assert convert(fields, {"batch-size": "3"}) == ({"batch_size": 3}, {})
    assert convert(fields, {"batch_size": "3"}) == ({"batch_size": 3}, {})


def test_a_key_that_is_given_both_ways_is_a_mistake():
    fields = fields_of(int, name="batch_size")

    _, mistakes = convert(fields, {"batch-size": "3", "batch_size": "4"})

    assert mistakes == {"batch_size": "is given twice, also as 'batch-size'"}


def test_an_unknown_key_gets_the_nearest_name():
    _, mistakes = convert(fields_of(str, "small", name="model"), {"modle": "x"})

    assert mistakes == {
        "modle": "is not a parameter of the task; did you mean 'model'?",
    }


def test_an_unknown_key_gets_the_list_when_none_is_near():
    some = fields_of(str, "small", name="model")

    assert convert(some, {"zzz": "x"})[1] == {
        "zzz": "is not a parameter of the task (parameters: model)",
    }
    assert convert((), {"zzz": "x"})[1] == {
        "zzz": "is not a parameter of the task (it has none)",
    }


def test_all_mistakes_are_found_at_once():
    class Params:
        needed: int
        count: int = 1
        flag: bool = False

    fields = read_fields("T", Params, ())

    values, mistakes = convert(fields, {"count": "x", "flag": "x", "other": "1"})

    assert set(mistakes) == {"needed", "count", "flag", "other"}
    assert values == {}


@pytest.mark.parametrize(
    ("annotation", "text", "word"),
    [
        (int, "three", "integer"),
        (int, "1.5", "integer"),
        (int, "", "integer"),
        (float, "x", "number"),
        (Colour, "green", "'red', 'blue'"),
        (Literal["a", "b"], "c", "'a', 'b'"),
        (dt.datetime, "x", "date"),
        (uuid.UUID, "x", "UUID"),
        (Annotated[int, typer.Option(min=1, max=5)], "9", "5"),
        (list[int], ["1", "x"], "integer"),
        (tuple[int, int], ["1"], "2"),
        (tuple[int, int], ["1", "2", "3"], "3"),
        (Annotated[Path, typer.Option(exists=True)], "/nowhere", "exist"),
    ],
)
def test_a_value_of_the_wrong_kind_is_a_mistake_in_typers_words(annotation, text, word):
    assert word in mistake(annotation, text)


def test_one_value_is_not_a_list():
    assert mistake(int, ["1", "2"]) == "expected one value, found a list of 2 values"


def test_a_default_of_the_wrong_type_is_not_called_missing():
    assert "integer" in mistake(int, default="abc")


def test_a_callback_that_raises_is_a_mistake_of_the_value():
    def refuse(value):
        msg = f"no {value}"
        raise ValueError(msg)

    assert "no x" in mistake(Annotated[str, typer.Option(callback=refuse)], "x")


def test_prompts_are_not_shown():
    assert mistake(Annotated[str, typer.Option(prompt=True)]) == (
        "is required; give it a value"
    )


def test_a_required_parameter_without_typer_option_is_an_option():
    fields = fields_of(Path, name="db_path")

    described = describe_fields(fields)

    assert described[0].flags == ("--db-path",)
    assert described[0].required


def test_a_typer_option_as_the_default_value_is_honoured():
    option = typer.Option("small", "--size", help="How big")

    assert convert(fields_of(str, option), {}) == ({"x": "small"}, {})
    assert converted(str, "big", default=option) == "big"


@pytest.mark.parametrize(
    ("annotation", "default"),
    [(Annotated[str, typer.Argument()], NOTHING), (str, typer.Argument("a"))],
)
def test_a_typer_argument_is_refused(annotation, default):
    with pytest.raises(ParamError) as error:
        fields_of(annotation, default)

    assert str(error.value) == (
        "T.Params.x is a typer.Argument; "
        "use typer.Option, so that it has a name in a pipeline"
    )


def test_inherited_parameters_come_first_and_may_be_overridden():
    class Base:
        model: str = "small"
        seed: int = 1

    class Params(Base):
        extra: bool = False
        model = "large"

    fields = read_fields("T", Params, ())

    assert [field.name for field in fields] == ["model", "seed", "extra"]
    assert convert(fields, {})[0] == {"model": "large", "seed": 1, "extra": False}


def test_an_override_may_change_the_type():
    class Base:
        size: str = "small"

    class Params(Base):
        size: int = 3

    assert convert(read_fields("T", Params, ()), {"size": "4"})[0] == {"size": 4}


def test_annotations_may_be_texts_as_with_the_future_import(tmp_path, monkeypatch):
    (tmp_path / "postponed_params.py").write_text(
        "from __future__ import annotations\n"
        "from typing import Annotated\n"
        "import typer\n"
        "class Base:\n"
        "    seed: int | None = None\n"
        "class Params(Base):\n"
        "    size: Annotated[int, typer.Option(min=1)]\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from postponed_params import Params  # noqa: PLC0415 -- just written

    fields = read_fields("T", Params, ())

    assert convert(fields, {"size": "2"}) == ({"seed": None, "size": 2}, {})
    assert "size" in convert(fields, {"size": "0"})[1]


def test_a_task_without_params_has_no_fields():
    assert LocalTask.fields() == ()


BASE_NAMES = [
    "input_dir",
    "input_ext",
    "output_dir",
    "output_ext",
    "task_name",
    "once",
    "help",
    "freeze",
    "_frozen",
]
SLURM_NAMES = [
    "max_workers",
    "cpus",
    "memory",
    "time",
    "gpus",
    "sbatch_option",
    "sbatch_options",
    "setup_command",
    "setup_commands",
]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in (LocalTask, SlurmTask) for name in BASE_NAMES),
        *((SlurmTask, name) for name in SLURM_NAMES),
        (LocalAsyncTask, "concurrency_limit"),
    ],
)
def test_a_reserved_name_is_refused_by_name(kind, name):
    task = type("Embed", (kind,), {"Params": params_class(int, 1, name)})

    with pytest.raises(ReservedParamError) as error:
        task.fields()

    assert str(error.value) == (
        f"Parameter name collision in Embed.Params: {{{name!r}}} is reserved; rename it"
    )


@pytest.mark.parametrize("name", [*SLURM_NAMES, "concurrency_limit"])
def test_a_name_is_free_where_the_option_does_not_exist(name):
    task = type("Embed", (LocalTask,), {"Params": params_class(int, 1, name)})

    assert [field.name for field in task.fields()] == [name]


@pytest.mark.parametrize(
    ("flags", "clash"),
    [(["--input-dir"], "--input-dir"), (["--fast/--once"], "--once")],
)
def test_a_flag_of_tigerflow_is_refused_under_any_name(flags, clash):
    with pytest.raises(ParamError) as error:
        fields_of(Annotated[bool, typer.Option(*flags)], default=False)

    assert str(error.value) == (
        f"T.Params.x has the flag {clash}, which belongs to TigerFlow; choose another"
    )


def test_two_parameters_with_one_flag_are_refused():
    class Params:
        a: Annotated[int, typer.Option("--size")] = 1
        b: Annotated[int, typer.Option("--size")] = 2

    with pytest.raises(ParamError) as error:
        read_fields("T", Params, ())

    assert str(error.value) == (
        "T.Params.b has the flag --size, which belongs to T.Params.a; choose another"
    )


def test_a_parameter_without_a_type_is_refused():
    class Params:
        size = 3

    with pytest.raises(ParamError) as error:
        read_fields("T", Params, ())

    assert str(error.value) == "T.Params.size has no type; write 'size: int = …'"


def test_methods_and_private_names_are_not_params():
    class Params:
        size: int = 3
        _secret = 4

        def double(self):
            return 2 * self.size

    assert [field.name for field in read_fields("T", Params, ())] == ["size"]


@pytest.mark.parametrize("annotation", [int | str, list[tuple[int, int]]])
def test_a_type_that_typer_does_not_take_is_refused_with_its_reason(annotation):
    with pytest.raises(ParamError) as error:
        fields_of(annotation)

    assert str(error.value).startswith("T.Params.x cannot be an option: ")


def test_an_unknown_type_is_refused_with_a_fix():
    with pytest.raises(ParamError) as error:
        fields_of("Nope")

    assert str(error.value) == (
        "T.Params: name 'Nope' is not defined; import the type at the top of the module"
    )


def test_annotation_that_is_not_python_is_refused():
    with pytest.raises(ParamError) as error:
        fields_of("int[")

    assert str(error.value).startswith("T.Params: ")


def test_a_description_has_what_a_help_text_needs():
    class Params:
        model: Annotated[str, typer.Option(help="Model name")] = "small"
        sizes: list[int] = [1, 2]  # noqa: RUF012 -- as users write it
        colour: Annotated[Colour, typer.Option(hidden=True)] = Colour.RED
        key: str | None = None
        fast: bool = True
        where: Path

    described = describe_fields(read_fields("T", Params, ()))

    assert described == (
        description("model", "--model", "str", default="small", help="Model name"),
        description("sizes", "--sizes", "list[int]", default="1 2"),
        description("colour", "--colour", "Colour", default="red", hidden=True),
        description("key", "--key", "str", default=""),
        description("fast", "--fast --no-fast", "bool", default="True"),
        description("where", "--where", "Path", default=None, required=True),
    )


def description(name, flags, kind, **more):
    plain = {"required": False, "help": "", "hidden": False}
    return FieldDescription(name, tuple(flags.split()), kind, **(plain | more))


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (Path, NOTHING, ["--x", "a b"]),
        (Path, Path("here"), []),
        (float, 0.5, ["--x", "1e3"]),
        (bool, True, ["--no-x"]),
        (bool, False, ["--x"]),
        (Size, Size.BIG, ["--x", "big"]),
        (Colour, NOTHING, ["--x", "blue"]),
        (list[str], [], ["--x", "a;b", "--x", ""]),
        (list[int] | None, None, []),
        (tuple[int, str], NOTHING, ["--x", "1", "one"]),
        (dt.datetime, NOTHING, ["--x", "2025-09-11"]),
        (Annotated[int, typer.Option(count=True)], 0, ["--x", "--x"]),
        (Annotated[int, typer.Option(envvar="GIVEN")], 1, []),
    ],
)
def test_recorded_texts_give_the_same_values_in_another_process(
    annotation, default, words, monkeypatch
):
    monkeypatch.setenv("GIVEN", "7")
    fields = fields_of(annotation, default)
    texts = {}
    command = build_command([field.parameter for field in fields], lambda **v: v)
    record_texts(command, fields, texts)

    values = command.main(words, standalone_mode=False)

    monkeypatch.delenv("GIVEN")
    assert convert(fields, texts) == (values, {})
