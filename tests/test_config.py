"""Parameters: what params.yaml may and may not say."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deft.config import FinetuneParams, Params, PrepareParams, QuantizeParams, read_block
from deft.errors import InputError
from deft.terminology.rrf import AtomFilter

SMALL = """
prepare: {{umls: umls{prepare}}}
map: {{lexicon: l.csv}}
score: {{t1_train: a, t1_test: b, t2_test: c, data: sample, gold: d}}
{more}
"""


def write(tmp_path, *, prepare="", more=""):
    path = tmp_path / "params.yaml"
    path.write_text(SMALL.format(prepare=prepare, more=more))
    return path


def test_the_parameters_of_the_repository(root):
    params = Params.read(root / "params.yaml")
    keep = AtomFilter(**params.prepare.atom_filters())
    assert keep.languages == ("FRE", "ENG")
    assert not keep.suppressed
    assert params.score.data == "sample"


def test_defaults_and_filters(tmp_path):
    params = Params.read(
        write(tmp_path, prepare=", semantic_groups: [DISO], sources: [A, B], suppressed: true")
    )
    assert params.finetune == FinetuneParams()
    keep = AtomFilter(**params.prepare.atom_filters())
    assert (keep.semantic_groups, keep.sources, keep.suppressed) == (("DISO",), ("A", "B"), True)


def test_values_do_not_change():
    with pytest.raises(ValidationError):
        PrepareParams(umls="x").seed = 3


@pytest.mark.parametrize(
    ("prepare", "more", "message"),
    [
        (", sead: 1", "", r"field prepare\.sead: Extra inputs are not permitted, found 1"),
        (", dev_fraction: 2", "", r"field prepare\.dev_fraction: .*less than 1, found 2"),
        (", dev_fraction: .nan", "", r"field prepare\.dev_fraction: .*finite"),
        (", seed: one", "", r"field prepare\.seed: .*integer.*found 'one'"),
        ("", "finetune: {epochs: 0}", r"field finetune\.epochs: .*found 0"),
        (
            "",
            "quantize: {engine: fast}",
            r"field quantize\.engine: there is no variant 'fast'; there are onnxruntime, inc",
        ),
        ("", "quantize: {engines: [inc, fast]}", r"field quantize\.engines\.1: there is no variant 'fast'"),
        ("", "quantize: {engines: inc}", r"field quantize\.engines: expected a list, found 'inc'"),
        ("", "quantize: [1]", r"field quantize: expected a block of parameters, found a list"),
        ("", "quantize: {t1: [a]}", r"field quantize\.t1: expected a path, found a list"),
        ("", "finetune: {base: 5}", r"field finetune\.base: expected a text, found 5"),
        ("", "finetune: {base: 2026-01-02}", r"field finetune\.base: expected a text, found .*2026, 1, 2"),
        ("", "finetune: {base: null}", r"field finetune\.base: expected a text, found nothing"),
        ("", "finetune: {seed: yes}", r"field finetune\.seed: .*integer, found True"),
        ("", "finetune: {seed: -1}", r"field finetune\.seed: .*greater than or equal to 0, found -1"),
        ("", "finetune: {1: 2}", r"field finetune\.1: expected a text as the name, found 1"),
        ("", "index: {kind: hnsw}", r"field index\.kind"),
        ("", "speed:\n\t- 1", r"params\.yaml:6: is not valid YAML"),
    ],
)
def test_wrong_values_are_named(tmp_path, prepare, more, message):
    with pytest.raises(InputError, match=message) as caught:
        Params.read(write(tmp_path, prepare=prepare, more=more))
    assert "params.yaml" in str(caught.value)


def test_missing_block_and_empty_file(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("prepare: {umls: x}")
    with pytest.raises(InputError, match=r"p\.yaml: field map: Field required"):
        Params.read(path)
    path.write_text("")
    with pytest.raises(InputError, match=r"p\.yaml: expected a block of parameters, found nothing"):
        Params.read(path)
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_block(tmp_path / "none.yaml", PrepareParams)
    path.write_bytes("umls: é".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        read_block(path, PrepareParams)


def test_a_change_of_what_is_no_parameter(tmp_path):
    (tmp_path / "block.yaml").write_text("engine: inc\n", encoding="utf-8")
    changed = read_block(tmp_path / "block.yaml", QuantizeParams, {"engine": "onnxruntime"})
    assert changed.engine == "onnxruntime"
    with pytest.raises(InputError, match=r"field engine: engine\.name names no parameter"):
        read_block(tmp_path / "block.yaml", QuantizeParams, {"engine.name": "inc"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("umls: !!int abc", ":1: .*no value of type int: abc"),
        ("umls: x\nseed: !!int ''", ":2: .*no value of type int"),
        ("umls: !!float []", ":1: "),
        ("umls: 2020-13-45", ":1: .*no value of type timestamp: 2020-13-45"),
        ("umls: !!timestamp abc", ":1: .*no value of type timestamp: abc"),
        ("umls: x\nseed: 0x" + "f" * 5000, ":2: .*a number is too large"),
        ("umls: x\nseed: " + "9" * 5000, ":2: .*no value of type int: 9{50}"),
        ("umls: " + "[" * 100_000, ":1: .*nested too deeply"),
        ("umls: x\n" + "a:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 900)), ".*nested too deeply"),
        ("a: &a [x]\numls: [*a, *a]", ":2: .*aliases are not supported"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", ":2: .*aliases are not supported"),
        ('umls: "\\ud800"', ":1: .*characters that are none"),
        ('umls: "a\\0b"', ":1: .*characters that are none"),
        ('"\\ud800": x', ":1: .*characters that are none"),
        ("? [a]\n: b", ":1: .*unhashable"),
        ("umls: x\n" + "k" * 1000 + ": 1", "field k{100}"),
        ('umls: x\n"a\\nb": 1', r"field a\?b: "),
        ("umls: x\nseed: " + "k" * 100_000, "found 'k{99}"),
        ("umls: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_a_bad_value_gives_one_short_line(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_block(path, PrepareParams)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500 + len(str(path))
    assert caught.value.exit_code == 2


@given(st.text(alphabet="umls: \n[]{}!&*?|->'\"%@`#,x09.~\\\x00\u2028<=tfy"))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text("umls: " + text, encoding="utf-8")
    with suppress(InputError):
        assert isinstance(read_block(path, PrepareParams).umls, Path)


def test_bad_parameters_end_a_command_with_2(tmp_path, capsys, monkeypatch):
    from deft.cli import main

    path = write(tmp_path, more="speed: {texts: !!int abc}")
    monkeypatch.setattr("sys.argv", ["deft", "prepare", "--params", str(path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
