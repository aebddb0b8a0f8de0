"""dicomweb-client over a service: what it finds and fetches equals the files. dicomweb.py BASE FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from dicomweb_client.api import DICOMwebClient  # type: ignore[import-not-found]
from pydicom import dcmread
from pydicom.encaps import generate_frames

base, folder = sys.argv[1], Path(sys.argv[2])
client = DICOMwebClient(base)
(study,) = client.search_for_studies(search_filters={"PatientID": "S1"}, fields=["StudyInstanceUID"])
assert study["0020000D"]["Value"] == ["1.2.3"]
assert len(client.search_for_series("1.2.3", search_filters={"Modality": "SM"})) == 1
assert len(client.search_for_instances("1.2.3", "1.2.3.1")) == 2
assert len(client.retrieve_series_metadata("1.2.3", "1.2.3.1")) == 2
assert len(client.retrieve_study("1.2.3")) == 2
for path in sorted(folder.glob("*.dcm")):
    wanted = dcmread(path)
    uids = ("1.2.3", "1.2.3.1", wanted.SOPInstanceUID)
    assert client.retrieve_instance(*uids) == wanted
    frames = list(generate_frames(wanted.PixelData, number_of_frames=wanted.NumberOfFrames))
    for media in (None, ("image/jpeg",), (("image/jpeg", "1.2.840.10008.1.2.4.50"),)):
        got = client.retrieve_instance_frames(*uids, [5, 1], media_types=media)
        assert [bytes(one) for one in got] == [frames[4], frames[0]], media
    decoded = client.retrieve_instance_frames(*uids, [1], media_types=("application/octet-stream",))
    assert len(decoded[0]) == wanted.Rows * wanted.Columns * 3
    assert client.retrieve_instance_frames_rendered(*uids, [2], media_types=("image/png",)).startswith(b"\x89PNG")
    assert client.retrieve_instance_metadata(*uids)["00080018"]["Value"] == [wanted.SOPInstanceUID]
print("equal")
