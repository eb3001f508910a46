"""The systems that are compared: ways to run one encoder, each opened in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deft.bench.run import Kind, graph_size
from deft.errors import InputError
from deft.variants import VARIANTS

PUBLISHED, CAREFUL, FP32 = "published loop", "sentence-transformers", "deft fp32"
SHAPES = ("camembert-base",)

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class System:
    """One way to run an encoder.

    Attributes
    ----------
    name
        What the table calls it.
    kind
        How it is opened.
    folder
        Its model: a sentence-transformers folder, or for ours an encoder bundle.
    precision
        What most of its products are computed in.
    """

    name: str
    kind: Kind
    folder: Path
    precision: Literal["fp32", "int8"]

    @property
    def file_size(self) -> int:
        """Bytes of the weights on disk; half precision is stored as such."""
        if self.kind == "deft":
            return graph_size(self.folder)
        return sum(path.stat().st_size for pattern in _WEIGHTS for path in self.folder.glob(pattern))


@dataclass(frozen=True)
class Shape:
    """The sizes that the work of a transformer follows from."""

    layers: int
    hidden: int
    intermediate: int

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Read the sizes from the `config.json` of a transformers model.

        Raises
        ------
        InputError
            It is missing, or says no such sizes.
        """
        from deft.files import read_json

        config = read_json(folder / "config.json")
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        try:
            return cls(*(int(config[name]) for name in names))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"does not say {', '.join(names)}.",
                path=folder / "config.json",
                remedy="Give the folder of a BERT-like model.",
            ) from error


def make_systems(model: Path, work: Path, engines: Sequence[str]) -> list[System]:
    """Export and quantize a sentence-transformers folder, and return all systems that run it.

    Raises
    ------
    InputError
        The folder is no sentence-transformers model with weights.
    GateError
        What was exported or quantized is not the same model.
    """
    from deft.compress.registry import make_variant
    from deft.config import ExportParams
    from deft.training.export import export

    fp32 = work / "fp32"
    export(model, fp32, ExportParams())
    systems = [
        System(PUBLISHED, "published", model, "fp32"),
        System(CAREFUL, "sentence-transformers", model, "fp32"),
        System(FP32, "deft", fp32, "fp32"),
    ]
    for engine in engines:
        info = make_variant(fp32, work / engine, engine, model=model)
        systems.append(System(f"deft {VARIANTS[engine].title}", "deft", work / engine, info.precision))
    return systems


def random_model(shape: str, tokenizer: Path, out: Path, *, seed: int = 13) -> Path:
    """Write a sentence-transformers folder with random weights; its speed is that of trained ones.

    Parameters
    ----------
    shape
        One of `SHAPES`.
    tokenizer
        Folder with the `tokenizer.json` to use.
    out
        Where to write.
    seed
        Of the weights.

    Raises
    ------
    InputError
        The shape is not known.
    """
    if shape not in SHAPES:
        raise InputError(f"{shape!r} is no shape known here.", remedy=f"Choose among {', '.join(SHAPES)}.")
    import torch
    from transformers import CamembertConfig, CamembertModel, PreTrainedTokenizerFast

    from deft.training.base import load_base, quiet

    torch.manual_seed(seed)
    plain = out / "plain"
    # The sizes of camembert-base, of which CamembertConfig has all but these as defaults. The padding token
    # is that of the tokenizer: positions are counted from it.
    config = CamembertConfig(
        vocab_size=32005,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    with quiet():
        roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        words = PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer / "tokenizer.json"), model_max_length=512, **roles
        )
        CamembertModel(config, add_pooling_layer=False).save_pretrained(plain)
        words.save_pretrained(plain)
        load_base(str(plain)).save(str(out / "model"))
    return out / "model"
