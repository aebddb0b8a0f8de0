"""Write Parquet, by arro3 (extra `export`), which is imported here alone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from listener.errors import ConfigError
from listener.export.columns import DAY, NUMBER, TEXT, WHOLE, Column, value_of

#: Rows of one batch in memory, and of one group in the file.
_BATCH, _GROUP = 1000, 10_000


def require() -> None:
    """Raise ConfigError where Parquet cannot be written."""
    try:
        import arro3.core
        import arro3.io  # noqa: F401 - both are needed
    except ImportError:
        text = "--to: a table needs the extra export: pip install 'dicom-listener[export]', or give --no-parquet"
        raise ConfigError([text]) from None


def written(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], about: str) -> bytes:
    """Return a Parquet file of rows; the same rows give the same bytes. `about` names the program that wrote it."""
    from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
    from arro3.io import write_parquet

    types = {TEXT: DataType.utf8(), WHOLE: DataType.int64(), NUMBER: DataType.float64(), DAY: DataType.date32()}
    schema = Schema([Field(column.name, types[column.type], nullable=True) for column in columns])

    def array(column: Column, batch: Sequence[Mapping[str, Any]]) -> Array:
        values = [value_of(column, row) for row in batch]
        if column.type == DAY:
            return Array(values, DataType.int32()).cast(DataType.date32())
        return Array(values, types[column.type])

    batches = [
        RecordBatch.from_arrays([array(column, batch) for column in columns], schema=schema) for batch in _batched(rows)
    ]
    file = io.BytesIO()
    reader = RecordBatchReader.from_batches(schema, batches)
    write_parquet(reader, file, compression="zstd(3)", max_row_group_size=_GROUP, created_by=about)
    return file.getvalue()


def _batched(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rest = iter(rows)
    while batch := list(islice(rest, _BATCH)):
        yield batch
