"""One mapper among threads, one index among processes, and an index that is replaced under its reader."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, permutations
from threading import Barrier

import pytest
from demo import ATOMS, TYPES, Atom, write_umls

from deft.index.build import build_index
from deft.mapping.filters import ConceptFilter
from deft.mapping.mapper import TermMapper

WORDS = ("rhume", "aigu", "rein", "gauche", "douleur", "des", "membres", "crise", "tête", "fièvre")
THREADS = 8

# Opens the index, says so, waits for a line on standard input, then answers.
PROCESS = """
import json, sys
from deft.mapping.mapper import TermMapper

mapper = TermMapper.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
print(json.dumps([mapping.as_dict() for mapping in mapper.map(json.loads(sys.argv[2]), k=3)]))
"""


def phrases(start, count):
    """Distinct phrases of three words."""
    return [" ".join(words) for words in islice(permutations(WORDS, 3), start, start + count)]


TERMS = phrases(0, 200)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A Metathesaurus with more strings than a small index has: codes propose them."""
    atoms = [Atom(f"C{10 + place // 3:07d}", name) for place, name in enumerate(phrases(0, 720))]
    types = [(atom.cui, ("T047", "T061")[int(atom.cui[1:]) % 2]) for atom in atoms]
    more = [Atom(f"C{900 + place:07d}", f"{name} SAI") for place, name in enumerate(phrases(100, 500))]
    return write_umls(tmp_path_factory.mktemp("release") / "META", [*ATOMS, *atoms, *more], [*TYPES, *types])


@pytest.fixture(scope="module")
def index(release, bundle, tmp_path_factory):
    """An index of `release` that is searched by codes, not to be changed."""
    out = tmp_path_factory.mktemp("wide") / "umls_index"
    assert build_index(release, bundle, out, kind="pq").rows["strings"] > 1200
    return out


@pytest.fixture
def eager_threads():
    """Have threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("keep", [None, ConceptFilter(semantic_groups=("DISO",))])
def test_threads_that_share_a_mapper_get_its_answers(index, keep, eager_threads):
    expected = TermMapper.open(index).map(TERMS, k=3, keep=keep)
    mapper = TermMapper.open(index)  # nothing is cached yet
    start = Barrier(THREADS)

    def work(first):
        start.wait()
        return [mapper.map([term], k=3, keep=keep)[0] for term in TERMS[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        shares = list(pool.map(work, range(THREADS)))
    for first, share in enumerate(shares):
        assert share == expected[first::THREADS]
    assert len({mapping.best.cui for mapping in expected}) > 20  # an answer of another term would be seen


def test_processes_that_share_an_index_give_the_same_answers(index):
    terms = TERMS[::10]
    command = [sys.executable, "-c", PROCESS, str(index), json.dumps(terms)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["open\n"] * 2  # both, at one time
        answers = [json.loads(process.communicate("go\n", timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    expected = json.loads(
        json.dumps([mapping.as_dict() for mapping in TermMapper.open(index).map(terms, k=3)])
    )
    assert answers == [expected, expected]


@pytest.mark.parametrize("kind", ["flat", "pq"])
def test_a_reader_goes_on_when_its_index_is_replaced(release, umls, bundle, tmp_path, kind):
    """Mapped files live as long as somebody has them open: POSIX sees to it, if no reader opens them late."""
    out = tmp_path / "umls_index"
    build_index(release, bundle, out, kind=kind)
    expected = TermMapper.open(out).map(TERMS[:20], k=3)
    reader = TermMapper.open(out)  # it has answered nothing yet
    build_index(umls, bundle, out)
    assert [entry.name for entry in tmp_path.iterdir()] == ["umls_index"]  # the old one is gone
    assert reader.map(TERMS[:20], k=3) == expected
    new = TermMapper.open(out).map(TERMS[:20], k=3)
    assert {candidate.cui for mapping in new for candidate in mapping.candidates} <= {
        atom.cui for atom in ATOMS
    }
    assert new != expected
