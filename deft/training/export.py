"""Export of a sentence-transformers folder to an encoder bundle.

Pooling and normalisation become part of the graph, and attention is one node a layer: transformers is told to
call our own attention operator, which the exporter translates to onnxruntime's `MultiHeadAttention`. That
holds for every architecture of `_FUSED_ARCHITECTURES`, whatever shape their attention code has; others are
exported with plain attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
import torch
from onnx import helper
from onnxscript import values
from tokenizers import Tokenizer
from torch import Tensor

from deft import __version__
from deft.config import ExportParams
from deft.encoder.bundle import MODEL, PROBES, TOKENIZER, EncoderInfo, bundle_folder
from deft.encoder.runtime import Encoder, Vectors, seal
from deft.errors import GateError, InputError
from deft.training.base import load_base, quiet
from deft.training.origin import Origin, write_card

Translations = Mapping[Callable[..., Any], Callable[..., Any]]

_FUSED_ARCHITECTURES = frozenset({"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})
_ATTENTION = "deft_fused"
_SUPPORTED_MODULES = ("Transformer", "Pooling", "Normalize")


@torch.library.custom_op(
    "deft::attention",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor value, Tensor mask, int heads, float scale) -> Tensor",
)
def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, scale: float) -> Tensor:
    """Compute attention of all heads over [batch, length, heads x size] tensors; `mask` is 0 for padding."""
    batch, length, _ = query.shape
    query, key, value = (part.view(batch, length, heads, -1).transpose(1, 2) for part in (query, key, value))
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask.bool()[:, None, None, :], scale=scale
    )
    return mixed.transpose(1, 2).flatten(2)


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, scale: float) -> Tensor:  # noqa: ARG001
    return torch.empty_like(query)


class Embedder(torch.nn.Module):
    """A transformer, its pooling and the L2 normalisation as one module: token ids in, unit vectors out."""

    def __init__(self, transformer: torch.nn.Module, pooling: Literal["mean", "cls"]) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.typed = "token_type_ids" in inspect.signature(transformer.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors of a batch, [batch, dimension]."""
        types = {"token_type_ids": torch.zeros_like(input_ids)} if self.typed else {}
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1)
        # The norm is spelled out: the shape inference behind the fusions does not know ReduceL2. And it is a
        # power, because a product is something that quantizers quantize.
        return cast("Tensor", pooled / pooled.pow(2).sum(1, keepdim=True).sqrt())


@dataclass(frozen=True)
class SentenceModel:
    """A loaded sentence-transformers folder."""

    embedder: Embedder
    tokenizer: Tokenizer
    dimension: int
    max_length: int
    reference: Callable[[Sequence[str], int], Vectors]

    @property
    def pooling(self) -> Literal["mean", "cls"]:
        """How token vectors become a sentence vector."""
        return self.embedder.pooling


def export(
    model_dir: Path | str,
    out: Path,
    params: ExportParams,
    *,
    origin: Origin | None = None,
) -> EncoderInfo:
    """Export a sentence-transformers folder to an fp32 encoder bundle.

    Parameters
    ----------
    model_dir
        A folder with a Transformer module, mean or cls Pooling and, if wanted, Normalize.
    out
        Where the bundle goes; may be `model_dir` itself, whose other files then stay.
    params
        Maximum length, opset and the tolerance of the check against PyTorch.
    origin
        Where the weights come from; what the folder says of itself if None.

    Returns
    -------
    What `encoder.json` says.

    Raises
    ------
    InputError
        The folder is not a sentence-transformers model, or holds modules that have no place in the graph.
    GateError
        The cosine of a probe's vectors from PyTorch and from ONNX is under 1 - `params.tolerance`.
    """
    with quiet():
        model = load_model(Path(model_dir))
        max_length = min(params.max_length, model.max_length)
        reference = model.reference(PROBES, max_length)
        origin = origin or Origin.read(model_dir)
        draft = EncoderInfo(
            dimension=model.dimension,
            max_length=max_length,
            pooling=model.pooling,
            precision="fp32",
            engine=None,
            batch_invariant=True,
            base=origin.base,
            training=origin.training,
            licence=origin.licence,
            deft_version=__version__,
        )
        with bundle_folder(out) as folder:
            prepare_for_tracing(model.embedder)
            graph = to_onnx(model.embedder, opset=params.opset, max_length=model.max_length)
            save_graph(fuse(graph, folder), folder / MODEL)
            model.tokenizer.save(str(folder / TOKENIZER))
            info = seal(folder, draft)
            write_card(folder, info)
            _check_against(reference, Encoder(folder, info), params.tolerance)
    return info


def load_model(model_dir: Path) -> SentenceModel:
    """Load a sentence-transformers folder.

    Raises
    ------
    InputError
        The folder is not a sentence-transformers model, or holds modules that have no place in the graph.
    """
    if not (model_dir / "modules.json").is_file():
        raise InputError(
            "is not a sentence-transformers folder (no modules.json).",
            path=model_dir,
            remedy="Give the output folder of the fine-tuning.",
        )
    sentence = load_base(str(model_dir)).to("cpu").eval()
    transformer, pooling = _parts(sentence, model_dir)
    backbone = transformer.auto_model
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # its output is not used, and the quantizer stumbles over a dead branch
    tokenizer = sentence.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "its tokenizer has no fast version, so there is no tokenizer.json to write.", path=model_dir
        )
    return SentenceModel(
        embedder=Embedder(backbone, pooling).eval(),
        tokenizer=_portable_tokenizer(tokenizer),
        dimension=int(backbone.config.hidden_size),
        max_length=_most_tokens(backbone) or tokenizer.model_max_length,
        reference=lambda texts, length: _reference(sentence, texts, length),
    )


def prepare_for_tracing(embedder: Embedder) -> None:
    """Make the transformer call the attention operator that becomes one ONNX node.

    An architecture that is not known to allow it computes attention step by step.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    transformer: Any = embedder.transformer
    if transformer.config.model_type not in _FUSED_ARCHITECTURES:
        transformer.set_attn_implementation("eager")
        return
    AttentionInterface.register(_ATTENTION, _attend)
    AttentionMaskInterface.register(_ATTENTION, _keep_mask)
    transformer.set_attn_implementation(_ATTENTION)


def to_onnx(
    module: torch.nn.Module, *, opset: int, max_length: int, translations: Translations | None = None
) -> onnx.ModelProto:
    """Trace a module of (`input_ids`, `attention_mask`) to ONNX, with batch and length dynamic.

    Parameters
    ----------
    module
        An `Embedder`, or what a quantizer made of one.
    opset
        The ONNX operator set.
    max_length
        The most tokens the module takes.
    translations
        ONNX translations of further PyTorch operators.
    """
    program = torch.onnx.export(
        module,
        example_inputs(),
        dynamo=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_shapes=dynamic_shapes(max_length),
        opset_version=opset,
        verbose=False,
        external_data=False,
        custom_translation_table={
            torch.ops.deft.attention.default: _translate_attention,
            **(translations or {}),
        },
    )
    assert program is not None
    return program.model_proto


def example_inputs() -> tuple[Tensor, Tensor]:
    """Return a batch to trace a model with: two texts, the second one padded."""
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    return torch.arange(16).reshape(2, 8) % 7 * mask, mask


def dynamic_shapes(max_length: int) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return the dynamic axes of both inputs."""
    batch = torch.export.Dim("batch", min=1, max=2**16)
    length = torch.export.Dim("length", min=1, max=max_length)
    return {0: batch, 1: length}, {0: batch, 1: length}


def fuse(graph: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Apply onnxruntime's fusions, biases with activations among them, and undo the one that is slow.

    Parameters
    ----------
    graph
        A graph from `to_onnx`.
    folder
        Where an intermediate file may be put; it is removed.
    """
    from onnxruntime.transformers.optimizer import optimize_model

    path = folder / "traced.onnx"
    save_graph(graph, path)
    try:
        fused: onnx.ModelProto = optimize_model(str(path), model_type="bert", opt_level=0).model
    finally:
        path.unlink()
    split_norms(fused)
    return fused


def split_norms(graph: onnx.ModelProto) -> None:
    """Make each SkipLayerNormalization a Sum and a LayerNormalization, in place.

    On processors onnxruntime has vector instructions for the two and none for the fused operator, which takes
    ten times as long: a quarter of an int8 encoder's time. It is a Sum because a session would fuse an Add
    again.
    """
    nodes = [
        new
        for node in graph.graph.node
        for new in (_split_norm(node) if node.op_type == "SkipLayerNormalization" else [node])
    ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def save_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph as one file, without the exporter's notes.

    They hold paths of this computer and change from run to run.
    """
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    graph.doc_string = graph.graph.doc_string = ""
    for part in (*graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.graph.value_info[:]
    onnx.save(graph, path)


def _parts(sentence: Any, model_dir: Path) -> tuple[Any, Literal["mean", "cls"]]:  # noqa: ANN401 - untyped library
    modules = {type(module).__name__: module for module in sentence}
    unknown = [name for name in modules if name not in _SUPPORTED_MODULES]
    if unknown or not {"Transformer", "Pooling"} <= modules.keys():
        raise InputError(
            f"its modules are {', '.join(modules)}; only Transformer, Pooling and Normalize can be exported.",
            path=model_dir,
        )
    pooling = modules["Pooling"].pooling_mode
    if pooling not in ("mean", "cls"):
        raise InputError(f"its pooling is {pooling}; only mean and cls can be exported.", path=model_dir)
    return modules["Transformer"], pooling


def _portable_tokenizer(tokenizer: Any) -> Tokenizer:  # noqa: ANN401 - untyped library
    """Return a copy without truncation; its padding section names the padding token, for the runtime."""
    portable = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    portable.no_truncation()
    portable.enable_padding(pad_id=tokenizer.pad_token_id or 0, pad_token=tokenizer.pad_token or "[PAD]")
    return portable


def _most_tokens(backbone: Any) -> int | None:  # noqa: ANN401 - untyped library
    """Return how many positions the model has, or None where its architecture sets no limit.

    What sentence-transformers calls the maximal length is a setting of the training and may be far less.
    RoBERTa and its kin number positions from the padding id + 1 on, so that the first rows of their table are
    never used.
    """
    limits = [getattr(backbone.config, "max_position_embeddings", None)]
    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - skipped)
    return min((limit for limit in limits if limit), default=None)


def _reference(sentence: Any, texts: Sequence[str], max_length: int) -> Vectors:  # noqa: ANN401 - untyped library
    sentence.max_seq_length = max_length
    return cast("Vectors", sentence.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def _check_against(reference: Vectors, encoder: Encoder, tolerance: float) -> None:
    """Compare vectors of the probes, encoded in one padded batch and alone, with those from PyTorch."""
    for vectors in (encoder.encode(PROBES), np.concatenate([encoder.encode([probe]) for probe in PROBES])):
        cosines = (reference * vectors).sum(1)
        worst = int(cosines.argmin())
        if not cosines[worst] >= 1 - tolerance:
            raise GateError(
                f"The exported graph does not compute what PyTorch computes: cosine {cosines[worst]:.6f} on "
                f"{PROBES[worst][:40]!r}, and at least {1 - tolerance:.6f} is asked for."
            )


def _attend(
    module: torch.nn.Module,  # noqa: ARG001 - the signature is transformers'
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    heads, size = query.shape[1], query.shape[3]
    flat = [part.transpose(1, 2).flatten(2) for part in (query, key, value)]
    scale = size**-0.5 if scaling is None else scaling
    mixed = torch.ops.deft.attention(*flat, attention_mask.to(torch.int32), heads, scale)
    return mixed.unflatten(2, (heads, size)), None


def _keep_mask(*_args: object, attention_mask: Tensor, **_kwargs: object) -> Tensor:
    return attention_mask


def _split_norm(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    x, skip, *scale_and_shift = node.input[:4]
    (out, *others), total = node.output, f"{node.output[0]}.total"
    if any(others):  # a mean, a deviation or the sum is used as well
        return [node]
    epsilon = next(value.f for value in node.attribute if value.name == "epsilon")
    return [
        helper.make_node("Sum", [x, skip, *filter(None, node.input[4:5])], [total], f"{node.name}.sum"),
        helper.make_node(
            "LayerNormalization", [total, *scale_and_shift], [out], node.name, axis=-1, epsilon=epsilon
        ),
    ]


def _translate_attention(query: Any, key: Any, value: Any, mask: Any, heads: int, scale: float) -> Any:  # noqa: ANN401
    operator = values.Op(values.Opset("com.microsoft", 1), "MultiHeadAttention", _attention_schema())
    return operator(query, key, value, None, mask, num_heads=heads, scale=scale)


def _attention_schema() -> onnx.defs.OpSchema:
    """Describe onnxruntime's operator as far as it is used; the onnx package knows only standard ones."""
    parameter, optional = (
        onnx.defs.OpSchema.FormalParameter,
        onnx.defs.OpSchema.FormalParameterOption.Optional,
    )
    attribute, kinds = onnx.defs.OpSchema.Attribute, onnx.defs.OpSchema.AttrType
    return onnx.defs.OpSchema(
        "MultiHeadAttention",
        "com.microsoft",
        1,
        inputs=[
            parameter("query", "T"),
            parameter("key", "T", param_option=optional),
            parameter("value", "T", param_option=optional),
            parameter("bias", "T", param_option=optional),
            parameter("key_padding_mask", "M", param_option=optional),
        ],
        outputs=[parameter("output", "T")],
        type_constraints=[("T", ["tensor(float)"], ""), ("M", ["tensor(int32)"], "")],
        attributes=[
            attribute("num_heads", kinds.INT, required=True),
            attribute("scale", kinds.FLOAT, required=False),
        ],
    )
