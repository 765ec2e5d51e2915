"""Batches: a folder of images from a file of prompts, resumable, nothing paid twice."""

from ._events import BatchEvent, BatchEventKind, BatchProgress, BatchSummary
from ._gallery import rebuild_gallery, write_gallery
from ._inputs import Row, RowDefaults, check_input, read_rows
from ._journal import Journal
from ._journal_rows import JobState
from ._manifest import ManifestRow, ManifestStatus, read_manifest, write_manifest
from ._patience import Patience
from ._preflight import Preflight
from ._runner import BatchRunner

__all__ = [
    "BatchEvent",
    "BatchEventKind",
    "BatchProgress",
    "BatchRunner",
    "BatchSummary",
    "JobState",
    "Journal",
    "ManifestRow",
    "ManifestStatus",
    "Patience",
    "Preflight",
    "Row",
    "RowDefaults",
    "check_input",
    "read_manifest",
    "read_rows",
    "rebuild_gallery",
    "write_gallery",
    "write_manifest",
]
