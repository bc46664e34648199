"""What train.py refuses or notes of a table, check_data does too, in the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from helper_functions.check_data.findings import Findings
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.report import make_report, to_text
from helper_functions.check_data.rows import (
    check_for_training,
    check_spelling,
    check_table,
    read_rows,
)
from helper_functions.data.splits import read_split_table
from helper_functions.runtime.errors import UserError

GOOD = ("a,['x'],train", "b,['y'],train", "c,['x'],val", "d,['y'],val")


def _joined(separator: str) -> tuple[str, ...]:
    """Rows of crab, eel and both, in both splits."""
    cells = ("crab", "eel", f"crab{separator}eel")
    splits = ("train", "val")
    return tuple(f"{cell[0]}{n}{s},{cell},{s}" for n, cell in enumerate(cells) for s in splits)


# Rows, and what both say of them; None: nothing
CASES: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (GOOD, None),
    ((*GOOD, "e,[],train"), None),
    ((*GOOD, "a,['x'],train"), "Line 6 repeats line 2"),
    ((*GOOD, "a,['y'],train"), "Lines 2 and 6 give 'a' different labels"),
    ((*GOOD, "./a,['y'],train"), "Lines 2 and 6 give './a', there spelt 'a', different labels"),
    ((*GOOD, "a,['x'],val"), "an image belongs to one split"),
    ((*GOOD, "./a,['x'],val"), "an image belongs to one split"),
    ((*GOOD, "e,nan,train"), "'e' has no label, only nan"),
    ((*GOOD, "e,array(['x']),train"), "are not a list of names"),
    ((*GOOD, "e,x,y,train"), "the row has 4 columns"),
    ((*GOOD, "e,['z'],val"), "No training image shows 'z'"),
    ((*GOOD, "e,['z'],train"), "No validation image shows 'z'"),
    ((*GOOD, "e,['X'],train", "f,['X'],val"), "may be a misspelling of"),
    (
        (*GOOD, "e,['None'],train", "f,['None'],val"),
        "'None' (2 images) may mean",
    ),
    (("a,[1],train", "b,[1.0],train", "c,[1],val", "d,[1.0],val"), "are the same number"),
    (GOOD[:2], "No usable row belongs to the split val"),
    (GOOD[2:], "No usable row belongs to the split train"),
    (("a,[],train", *GOOD[2:]), "No image of the split train has a label"),
    ((*GOOD[:2], "c,[],val"), "No image of the split val has a label"),
    ((GOOD[0], GOOD[2]), "Every training image shows 'x'"),
    (tuple(f"{n},id{7 * n},{'val' if n % 3 else 'train'}" for n in range(30)), "one image only"),
    (('a,"[0, 1]",train', 'b,"[1, 1]",val'), "a list of 2 zeros and ones in every label cell"),
    *((_joined(s), f"1 class name looks joined by {s!r}, such as 'crab{s}eel'") for s in "|;/ +"),
)


@pytest.mark.parametrize(("rows", "sentence"), CASES)
def test_both_say_the_same(rows: tuple[str, ...], sentence: str | None, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("\n".join(("filename,label,split", *rows)) + "\n")
    findings = Findings(limit=100)
    samples = read_rows(path, findings)
    counts = ClassCounts(samples)
    check_table(samples, counts, findings)
    check_spelling(counts, None, findings)
    report = make_report(samples, counts, [], findings)
    faults = [example for fault in report["faults"] for example in fault["examples"]]
    notes = [example for note in report["notes"] for example in note["examples"]]

    try:
        printed = check_for_training(read_split_table(path))
    except UserError as error:
        assert sentence is not None and sentence in str(error)
        assert any(fault in str(error) for fault in faults)
    else:
        assert faults == []
        assert bool(printed) == bool(notes)
        for kind, line in zip(report["notes"], printed, strict=False):
            assert line.startswith(f"Note: {kind['examples'][0]}")
        assert sentence is None or any(sentence in line for line in printed)
    assert sentence is None or any(sentence in each for each in (*faults, *notes))
    assert to_text(report).endswith("Ready to train.") == (sentence is None)
