"""Draw French names of an index as gold: `python experiments/mapping/draw_names.py INDEX OUT.tsv`."""

import csv
import sys
from pathlib import Path

import numpy as np

from deft import TermMapper
from deft.terminology.lay import LANGUAGE, LAY

COUNT, LEAST_LETTERS, SEED = 300, 6, 7


def main(index: str, out: str) -> None:
    """Write the strings that are drawn, and the concepts that have each as a name."""
    concepts = TermMapper.open(index).concepts
    string, owner = concepts.numbers("atoms", "string"), concepts.numbers("atoms", "concept")
    french = concepts.labels("atoms", "language").isin([LANGUAGE])
    lay = concepts.labels("atoms", "term_type").isin([LAY])
    texts = concepts.texts("strings", "string")
    rows = [row for row in np.unique(string[french & ~lay]) if len(texts.at(row)) >= LEAST_LETTERS]
    drawn = np.random.default_rng(SEED).permutation(rows)[:COUNT]
    with Path(out).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["Terme", "CUI"])
        for row in drawn:
            cuis = sorted({concepts.cui(concept) for concept in owner[string == row]})
            table.writerow([texts.at(row), ";".join(cuis)])


if __name__ == "__main__":
    main(*sys.argv[1:])
