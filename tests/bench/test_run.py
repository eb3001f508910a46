"""One run of an encoder."""

from deft.bench.run import graph_size


def test_graph_size_counts_weights_beside_the_graph(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"12345")
    (tmp_path / "model.onnx.data").write_bytes(b"123")
    (tmp_path / "pytorch.bin").write_bytes(b"1" * 1000)
    assert graph_size(tmp_path) == 8
