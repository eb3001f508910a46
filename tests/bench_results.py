"""Results of benchmarks as the commands give them, made up."""

from deft.bench import index, page
from deft.bench.systems import CAREFUL, FP32, PUBLISHED


def _spread(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.1}


def _system(rate, memory):
    times = {name: _spread(rate / 10) for name in ("texts_per_second", "whole_process", "memory_saved")}
    return {
        "texts_per_second": _spread(rate),
        "whole_process_seconds": _spread(3.0),
        "opening_seconds": _spread(1.0),
        "peak_memory_mib": _spread(memory),
        "file_mib": 20.0,
        "cosine_to_fp32": {"mean": 0.999, "least": 0.99},
        "times": {PUBLISHED: times, CAREFUL: times},
        "limit": {"texts_per_second": 1000.0, "share": _spread(rate / 1000)},
    }


def encoder_results():
    """Results of the encoders, as `bench_encoders` gives them."""
    about = {"texts": 5, "mean_characters": 9.0, "mean_tokens": 4.0, "million_operations_per_text": 1.0}
    systems = {PUBLISHED: _system(5.0, 900.0), CAREFUL: _system(60.0, 800.0), FP32: _system(120.0, 200.0)}
    measured = {"workloads": {"lay terms": about | {"systems": systems}}, "shape": {}}
    scores = {name: {"recall_at_1": 0.5, "spearman": 0.7} for name in systems}
    return {
        "models": {
            "ours": measured | {"weights": "trained", "quality": {"systems": scores}},
            "<shape>": measured | {"weights": "random"},
        },
        "peak": {name: {"billion_per_second": _spread(100.0)} for name in ("fp32", "int8")},
        "params": {"rounds": 3},
        "hardware": {
            "processor": "P",
            "instructions": ["avx2"],
            "processors": 2,
            "memory_gib": 1.0,
            "system": "S",
        },
        "versions": {"python": "3"},
    }


def point(strings, slope):
    values = dict.fromkeys(index.GROWING, 2.0 + slope * strings / 1e6)
    rates = dict.fromkeys(page._MORE, 9.0)
    return {"strings": strings, "atoms": strings, "concepts": strings, "kind": "flat"} | values | rates
