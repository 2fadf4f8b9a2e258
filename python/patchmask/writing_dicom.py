"""Masks as DICOM segmentations (SEG), by highdicom: each frame lies on a slice of the series and refers to it.

    slices of the series, in the order of the mask --> their headers, made alike --> highdicom --> a file

Binary and uncompressed, one segment a class, slices without any left out: what every PACS reads. A mask of nothing has
an empty frame on every slice.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Optional

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from . import library_version
from .model import Model
from .reading import Spacing, slices_of
from .reading.problem import refuse
from .session import Session

# What a segmentation has of patient, study and frame of reference, perhaps empty.
_MAY_BE_EMPTY = (
    "PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime "
    "ReferringPhysicianName PositionReferenceIndicator"
).split()
_SERIES_NUMBER = 1000  # behind those of scanners
_LONG_STRING = 64  # characters


class SegmentedSeries:
    """A DICOM series that a mask is to be written for. Raises, before the work, where that will not be possible."""

    def __init__(self, path: Path, series: Optional[str], spacing: Spacing, model: Model, session: Session):
        self._path, self._model = path, model.info.sha256
        slices = slices_of(path, series)
        headers = {one.path: _header(one.path) for one in slices}
        multi_frame = any(one.frame is not None for one in slices)
        if multi_frame and len(headers) > 1:
            raise refuse(
                path, f"its frames are in {len(headers)} files; a DICOM segmentation is of one: leave out --dicom-seg"
            )
        # highdicom takes frames of a multi-frame file in the file's order, and single slices as they come.
        self._order = sorted(range(len(slices)), key=lambda at: slices[at].frame or 0)
        self._sources = [headers[path] for path in dict.fromkeys(one.path for one in slices)]
        # Positions are those of each slice; the rest is one for all, spacings as the scan was read.
        axes = hd.PlaneOrientationSequence("PATIENT", slices[0].orientation.ravel().tolist())
        measures = hd.PixelMeasuresSequence((spacing[1], spacing[0]), spacing[2], spacing[2])
        first = self._sources[0]
        if multi_frame:
            positions = (hd.PlanePositionSequence("PATIENT", slices[at].position.tolist()) for at in self._order)
            first.PerFrameFunctionalGroupsSequence = [_item(PlanePositionSequence=position) for position in positions]
            shared = _item(PlaneOrientationSequence=axes, PixelMeasuresSequence=measures)
            first.SharedFunctionalGroupsSequence = [shared]
        else:
            for header in self._sources:
                header.update(axes[0])
                header.update(measures[0])
        for keyword in _MAY_BE_EMPTY:
            first.setdefault(keyword, "")
        self._segments = _segments(model, session)
        trial = np.zeros((len(slices), *slices[0].shape), np.uint8)
        trial[0, 0, 0] = 1
        self._segmentation(trial)

    def write(self, mask: np.ndarray, place: Path) -> None:
        """`mask`: class numbers [slice][row][column], on the grid that the scan was read on."""
        self._segmentation(mask).save_as(place)

    def _segmentation(self, mask: np.ndarray) -> Any:
        ascii_only = all(segment.SegmentLabel.isascii() for segment in self._segments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the headers of the series have
            try:
                return hd.seg.Segmentation(
                    source_images=self._sources,
                    pixel_array=mask[self._order],
                    segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                    segment_descriptions=self._segments,
                    series_instance_uid=generate_uid(),
                    series_number=_SERIES_NUMBER,
                    sop_instance_uid=generate_uid(),
                    instance_number=1,
                    manufacturer="patchmask",
                    manufacturer_model_name="patchmask",
                    software_versions=library_version(),
                    device_serial_number=self._model,
                    series_description="patchmask segmentation",
                    omit_empty_frames=bool(mask.any()),
                    specific_character_set=self._sources[0].get("SpecificCharacterSet") if ascii_only else "ISO_IR 192",
                )
            except (ValueError, TypeError, AttributeError, KeyError) as failed:
                raise refuse(
                    self._path,
                    f"what its headers say cannot go into a DICOM segmentation ({' '.join(str(failed).split())}): "
                    "correct them, or leave out --dicom-seg",
                ) from failed


def _header(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    if not header.get("FrameOfReferenceUID"):
        raise refuse(
            path,
            "has no FrameOfReferenceUID, which ties a DICOM segmentation to its slices: write the same new one into "
            "all files of the series (dcmodify -nb -i FrameOfReferenceUID=UID), or leave out --dicom-seg",
        )
    return header


def _item(**sequences: Any) -> Dataset:
    groups = Dataset()
    for keyword, value in sequences.items():
        setattr(groups, keyword, value)
    return groups


def _segments(model: Model, session: Session) -> list[Any]:
    """One for each class but the background, class 0."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name="patchmask",
        family=codes.cid7162.ArtificialIntelligence,
        version=library_version(),
        parameters={"model_sha256": model.info.sha256, **session.options},
    )
    names = model.info.class_names or [f"class {number}" for number in range(model.info.classes)]
    segments = []
    for number, name in enumerate(names[1:], 1):
        label = re.sub(r"[\\\x00-\x1f]", " ", name).strip()[:_LONG_STRING] or f"class {number}"
        category, kind = coded(label, number == session.options["lesion_class"])
        segments.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=label,
                segmented_property_category=category,
                segmented_property_type=kind,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
        )
    return segments


def coded(name: str, is_lesion: bool) -> tuple[Any, Any]:
    """Category and type (DICOM PS3.16, CID 7150 and 7151) of a class: the term of its name among lesions, organs and
    tissues, such as "liver" or "enhancing lesion"; else a lesion, or a tissue."""
    term = "".join(word[0].upper() + word[1:] for word in re.findall(r"\w+", name.replace("_", " ")))
    for category, terms in (
        (codes.cid7150.MorphologicallyAbnormalStructure, codes.cid7159),
        (codes.cid7150.AnatomicalStructure, codes.cid7192),
        (codes.cid7150.Tissue, codes.cid7166),
    ):
        if term in terms.dir():
            return category, getattr(terms, term)
    if is_lesion:
        return codes.cid7150.MorphologicallyAbnormalStructure, codes.cid7159.Lesion
    return codes.cid7150.Tissue, codes.cid7166.Tissue

