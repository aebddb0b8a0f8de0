"""The conformance statement tells of both AEs as they are: the program's constants, and a real storescp."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.uid import AllTransferSyntaxes, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

import listener
from listener.network import contexts, pdu, statuses
from listener.network.association import Patience, Peer
from tests import dicomnet
from tests.conftest import PROJECT
from tests.documents import read, rows, section

STATEMENT = PROJECT / "docs/conformance.md"

CT, VERIFICATION, COMMITMENT, FIND = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.1.1",
    "1.2.840.10008.1.20.1",
    "1.2.840.10008.5.1.4.1.2.2.1",
)


def subsection(of: str, heading: str) -> str:
    """The text below a heading that stands in several sections."""
    return section_text(read(STATEMENT).partition(f"\n### {of}\n")[2].partition("\n### ")[0], heading)


def section_text(text: str, heading: str) -> str:
    return text.partition(f"#### {heading}\n")[2].partition("\n#### ")[0]


def told_syntaxes() -> list[str]:
    table = subsection("4.2 AE specifications: STORAGE-SCP", "Presentation contexts").partition("| transfer syntax")[2]
    return re.findall(r"\b1\.2\.840\.10008\.1\.2[\d.]*\b", table)


def test_it_is_of_this_version_and_in_the_order_of_the_standard() -> None:
    text = read(STATEMENT)
    assert f"dicom-listener {listener.__version__} " in text
    heads = re.findall(r"^## (\d) (.*)$", text, re.MULTILINE)
    assert [number for number, _ in heads] == list("12345678")
    contents = section(STATEMENT, "2 Contents")
    assert all(re.search(rf"\(#{number}-", contents) for number, _ in heads if number != "2")


def test_what_it_says_of_the_scu_is_so() -> None:
    table = subsection("4.3 AE specifications: STORAGE-SCU", "Associations")
    told = {first: second for first, second in rows(table)}  # noqa: C416 - of lists
    assert told["implementation class UID"] == pdu._IMPLEMENTATION.decode()
    assert told["implementation version name"] == f"`{pdu._IMPLEMENTATION_VERSION.decode()}`"
    assert told["largest PDU"] == f"{pdu.OURS} bytes received; sent: as the peer says, at most {pdu.LONGEST}"
    assert told["calling AE title"].startswith(f"`{Peer('h', 1, 'x').calling}`")
    waits = Patience()
    assert [float(number) for number in re.findall(r"(\d+) s for", told["waits"])] == [
        waits.connect,
        waits.associate,
        waits.response,
    ]
    proposed = subsection("4.3 AE specifications: STORAGE-SCU", "Presentation contexts")
    assert f"At most {contexts.MOST} contexts" in proposed


def test_what_each_status_means_is_told() -> None:
    """Every number: it stands in one row, or in "any other"."""
    table = subsection("4.3 AE specifications: STORAGE-SCU", "Storage")
    meanings = [(first, second) for first, second, _ in rows(table)]
    patterns = [
        (re.compile("|".join(re.findall(r"\b[\dA-Fx]{4}\b", cell)).replace("x", ".")), word) for cell, word in meanings
    ]
    words = {"delivered": "delivered", "the peer is full": "full", "refused": "refused"}
    for status in range(0x10000):
        (found,) = [
            words[word] for pattern, word in patterns if pattern.pattern and pattern.fullmatch(f"{status:04X}")
        ] or ["failed"]
        assert statuses.meaning(status).outcome == found, f"{status:04X}"


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_what_it_says_of_storescp_is_so(tmp_path: Path) -> None:
    """As recommended. A newer DCMTK may accept more."""
    plain = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
    told = told_syntaxes()
    assert len(told) == len(set(told)) == 21
    with dicomnet.storescp(tmp_path) as receiver:

        def accepted(abstract: str, syntaxes: Sequence[str], called: str = "ANY") -> list[str]:
            entity = AE(ae_title="ANYBODY")
            for one in syntaxes:
                entity.add_requested_context(abstract, one)
            association = entity.associate("127.0.0.1", receiver.port, ae_title=called)
            found = [str(context.transfer_syntax[0]) for context in association.accepted_contexts]
            if association.is_established:
                assert association.acceptor.maximum_length == 16384
                association.release()
            return found

        assert sorted(accepted(CT, told)) == sorted(told)
        assert {*accepted(CT, [str(one) for one in AllTransferSyntaxes])} >= {*told}
        assert accepted("1.2.3.4.5", plain[:1]) == plain[:1], "a private class"
        assert sorted(accepted(VERIFICATION, plain)) == sorted(plain)
        assert accepted(COMMITMENT, plain) == accepted(FIND, plain) == []
