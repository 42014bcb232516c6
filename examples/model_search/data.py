"""A table to learn from: one of scikit-learn's, or a CSV of the user's, checked before any work starts."""

import csv
import hashlib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from examples.model_search.scoring import Columns, development_rows, read_rows

BUNDLED = {"diabetes": load_diabetes, "wine": load_wine, "breast_cancer": load_breast_cancer}
MIN_ROWS = 30
MAX_COLUMNS = 1_000
MAX_CLASSES = 20
MIN_PER_CLASS = 5
LONGEST_HEADER = 1_000_000


class DataError(Exception):
    """The table cannot be used; the message is one line that says why and what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked table, held in memory. Compared by identity, so that scores can be remembered per table.

    Attributes:
        ignored: column name -> why it is not used.
        x, y: the development rows, on which pipelines are built and cross-validated.
        held_x, held_y: the rows that only the held-out vote looks at.
        total_rows: in the file; of a large one only a sample is used.
        digest: of what was read; a search goes on only with the same data.
    """

    name: str
    path: Path
    columns: Columns
    ignored: dict[str, str]
    x: pd.DataFrame
    y: pd.Series
    held_x: pd.DataFrame
    held_y: pd.Series
    total_rows: int
    digest: str

    @property
    def rows(self) -> int:
        """How many rows are used in all."""
        return len(self.y) + len(self.held_y)


def load(source: str, target: str | None, seed: int, folder: Path) -> Dataset:
    """Load a bundled data set or a CSV file.

    Args:
        source: "diabetes", "wine", "breast_cancer", or the path of a CSV file with a header line.
        target: the column to predict; needed for a CSV file.
        seed: of the sample, the held-out part, the folds and the models.
        folder: where a bundled data set is written as a CSV file, so that pipeline files can read it.

    Raises:
        DataError: the table cannot be used.
    """
    if source in BUNDLED:
        if target not in (None, "target"):
            raise DataError(f"{source}: the target of this data set is 'target', not '{target}'. Leave out --target.")
        path, target = folder / f"{source}.csv", "target"
        _write_bundled(source, path)
    else:
        path = Path(source)
    sep = _check_header(path, target)
    table = _read(path, sep, ".")
    decimal = "," if sep != "," and _has_decimal_commas(table) else "."
    if decimal == ",":
        table = _read(path, sep, decimal)
    if target is None:
        names = ", ".join(str(c) for c in list(table.columns)[:8]) + (", …" if len(table.columns) > 8 else "")
        raise DataError(f"{path}: say which column to predict, with --target COLUMN. The columns are {names}.")
    columns, ignored = _columns(path, table, target)
    columns = replace(columns, sep=sep, decimal=decimal, seed=seed)
    x, y = read_rows(path, columns)
    if columns.classify:
        _check_classes(path, y, target)
    dev, held = development_rows(y, columns)
    return Dataset(
        name=path.stem, path=path, columns=columns, ignored=ignored,
        x=x.iloc[dev].reset_index(drop=True), y=y.iloc[dev].reset_index(drop=True),
        held_x=x.iloc[held].reset_index(drop=True), held_y=y.iloc[held].reset_index(drop=True),
        total_rows=len(table), digest=_digest(x, y, columns),
    )  # fmt: skip


def _write_bundled(source: str, path: Path) -> None:
    options = {"scaled": False} if source == "diabetes" else {}
    bundle: Any = BUNDLED[source](as_frame=True, **options)
    table = bundle.frame
    if "target_names" in bundle:
        table["target"] = [str(bundle.target_names[label]) for label in table["target"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def _check_header(path: Path, target: str | None) -> str:
    """Look at the first line only: it tells most mistakes, and a hopeless file is not read at all."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(LONGEST_HEADER)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file. Give a CSV file, or {', '.join(BUNDLED)}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: this is not UTF-8 text. Save it as a CSV file in UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    if not line.strip():
        raise DataError(f"{path}: the file is empty. It needs a header line and at least {MIN_ROWS} rows.")
    sep = max(",;\t|", key=line.count)
    names = next(csv.reader([line], delimiter=sep, skipinitialspace=True))
    if len(names) > MAX_COLUMNS or len(line) >= LONGEST_HEADER:
        count = f"{len(names):,}" if len(line) < LONGEST_HEADER else f"more than {len(names):,}"
        raise DataError(f"{path}: the header has {count} columns, the limit is {MAX_COLUMNS:,}. Select columns first.")
    if len(names) < 2:
        raise DataError(f"{path}: only one column, '{names[0][:40]}'. It needs inputs beside the target.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called '{twice[:40]}'. Give every column its own name.")
    if target is not None and target not in names:
        near = get_close_matches(target, names, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"The columns are {', '.join(names[:8])[:200]}."
        raise DataError(f"{path}: there is no column '{target}'. {hint}")
    return sep


def _has_decimal_commas(table: pd.DataFrame) -> bool:
    """Whether some column holds nothing but numbers that are written like 3,14."""
    texts = (table[name].dropna() for name in table.columns if not pd.api.types.is_numeric_dtype(table[name]))
    return any(len(text) and text.astype(str).str.fullmatch(r"\s*-?\d+(,\d+)?\s*").all() for text in texts)


def _read(path: Path, sep: str, decimal: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep=sep, decimal=decimal, low_memory=False, skipinitialspace=True)
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as a table: {reason[:160]}") from None
    if len(table) < MIN_ROWS:
        rows = "1 row" if len(table) == 1 else f"{len(table)} rows"
        raise DataError(
            f"{path}: {rows} under the header; at least {MIN_ROWS} are needed to tell a pattern from noise."
        )
    return table


def _columns(path: Path, table: pd.DataFrame, target: str) -> tuple[Columns, dict[str, str]]:
    classify = _is_class(path, table[target], target)
    numbers, categories, ignored = [], [], {}
    for name in table.columns:
        column = table[name]
        if name == target:
            continue
        if str(name).startswith("Unnamed: "):
            ignored[str(name)] = "it has no name, so it is taken for a row number"
        elif column.nunique() < 2:
            ignored[str(name)] = "empty" if column.isna().all() else "one value only"
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            numbers.append(str(name))
        elif column.nunique() > max(MAX_CLASSES, len(table) // 10):
            ignored[str(name)] = f"{column.nunique():,} different texts"
        else:
            categories.append(str(name))
    if not numbers and not categories:
        why = "; ".join(f"{name} ({reason})" for name, reason in ignored.items())
        raise DataError(f"{path}: no column beside '{target}' can be used: {why[:200]}.")
    return Columns(target, tuple(numbers), tuple(categories), classify), ignored


def _is_class(path: Path, column: pd.Series, target: str) -> bool:
    """Whether the target is a class: text, yes/no, or at most ten different whole numbers."""
    missing = int(column.isna().sum())
    if missing:
        line = int(np.argmax(column.isna().to_numpy())) + 2
        raise DataError(
            f"{path}: target '{target}' is empty in {missing:,} rows, first in line {line}. Fill or remove them."
        )
    values = column.nunique()
    if values < 2:
        raise DataError(f"{path}: target '{target}' has one value only, {column.iloc[0]}: nothing to predict.")
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and not np.isfinite(column.to_numpy(dtype=float)).all():
        raise DataError(f"{path}: target '{target}' has infinite values. Remove those rows.")
    if numeric and (values > 10 or (column.to_numpy(dtype=float) % 1 != 0).any()):
        return False
    if values > MAX_CLASSES:
        raise DataError(
            f"{path}: target '{target}' is text with {values:,} different values; it must be numbers, "
            f"or at most {MAX_CLASSES} classes."
        )
    return True


def _check_classes(path: Path, y: pd.Series, target: str) -> None:
    counts = y.value_counts()
    if counts.min() < MIN_PER_CLASS:
        rows = "1 row" if counts.min() == 1 else f"{counts.min()} rows"
        few = f"class '{counts.idxmin()}' of '{target}' has {rows}"
        raise DataError(f"{path}: {few}, at least {MIN_PER_CLASS} are needed. Merge or remove rare classes.")


def _digest(x: pd.DataFrame, y: pd.Series, columns: Columns) -> str:
    text = x.to_csv(index=False) + y.to_csv(index=False) + repr(columns)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
