"""Parameters: what params.yaml may and may not say."""

import pytest
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
        ("", "quantize: {engine: fast}", r"field quantize\.engine: .*'onnxruntime' or 'inc', found 'fast'"),
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
    with pytest.raises(InputError, match=r"p\.yaml: Input should be a valid dictionary"):
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
