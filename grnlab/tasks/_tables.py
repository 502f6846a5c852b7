"""Tables of responses, effects and features, checked."""

import numpy as np
import pandas as pd


def check_responses(responses: pd.DataFrame) -> pd.DataFrame:
    """Responses as float64.

    Raises
    ------
    ValueError
        When they are infinite or no numbers, or a line or drug is named twice.
    """
    for name, labels in (("lines", responses.index), ("drugs", responses.columns)):
        if labels.has_duplicates:
            msg = f"responses names {name} more than once: {list(labels[labels.duplicated()][:5])}; average them first."
            raise ValueError(msg)
    try:
        numbers = responses.astype(np.float64)
    except (TypeError, ValueError) as error:
        msg = f"responses must hold numbers, NaN where nothing was measured: {error}."
        raise ValueError(msg) from error
    if np.isinf(numbers.to_numpy()).any():
        msg = "responses holds infinite values; set them to NaN, or to the end of the range that was measured."
        raise ValueError(msg)
    return numbers


def check_table(
    table: pd.DataFrame, name: str, *, rows: pd.Index | None = None, columns: pd.Index | None = None
) -> None:
    """Refuse what is no table of finite numbers, names a row or column twice, or lacks `rows` or `columns`.

    Raises
    ------
    ValueError
        When it is such.
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"{name} must be a data frame; got {type(table).__name__}."
        raise ValueError(msg)
    if table.columns.has_duplicates:
        repeated = list(table.columns[table.columns.duplicated()][:5])
        msg = f"{name} has the columns {repeated} more than once; give each a name of its own."
        raise ValueError(msg)
    if table.index.has_duplicates:
        msg = f"{name} has the rows {list(table.index[table.index.duplicated()][:5])} more than once."
        raise ValueError(msg)
    if rows is not None and len(lacking := rows.difference(table.index)):
        msg = f"{name} lacks {len(lacking)} of {len(rows)} rows: {list(lacking[:5])}. Add them, or leave them out."
        raise ValueError(msg)
    if columns is not None and len(lacking := columns.difference(table.columns)):
        msg = f"{name} lacks {len(lacking)} of the {len(columns)} columns of training: {list(lacking[:5])}."
        raise ValueError(msg)
    if strange := [column for column, dtype in table.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]:
        msg = f"{name} has columns without numbers, {strange[:5]}; encode them (pandas.get_dummies) or leave them out."
        raise ValueError(msg)
    if not np.isfinite(table.to_numpy(dtype=np.float64)).all():
        msg = f"{name} holds NaN or infinite values; fill them in, or leave these rows out."
        raise ValueError(msg)
