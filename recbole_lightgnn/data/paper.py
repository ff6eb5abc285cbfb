"""Import the splits published with the LightGNN paper: three pickled SciPy matrices in a folder."""

from pathlib import Path

from recbole_lightgnn.data.atomic import SPLITS, dataset_folder, write_benchmark
from recbole_lightgnn.data.matrix import find_file
from recbole_lightgnn.data.unpickle import read_pickled_matrix

# The names in the paper's repository, then those in related repositories.
FILES = {
    "train": ("trnMat.pkl", "train_mat.pkl"),
    "valid": ("valMat.pkl", "valid_mat.pkl"),
    "test": ("tstMat.pkl", "test_mat.pkl"),
}


def import_paper(
    source: Path, name: str, out: Path = Path("dataset"), overwrite: bool = False
) -> Path:
    """Write the paper's splits in ``source`` as RecBole benchmark files to ``out/name``.

    User tokens are the row numbers of the matrices, item tokens the column numbers, both from 0. No
    code in the pickles is executed (see `unpickle`).

    Args:
        source: folder with ``trnMat.pkl``, ``valMat.pkl``, ``tstMat.pkl`` (or ``train_mat.pkl``,
            ``valid_mat.pkl``, ``test_mat.pkl``).
        name: the dataset's name, as for ``--dataset``.
        out: folder of all datasets, RecBole's ``data_path``.
        overwrite: whether an existing dataset may be replaced.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if a file is missing or contains no matrix, or as `atomic.write_benchmark`.
    """
    source, out = Path(source), Path(out)
    dataset_folder(out, name, overwrite=overwrite)  # fail before the minutes that reading may take
    splits = {split: read_pickled_matrix(find_file(source, split, FILES)) for split in SPLITS}
    origin = {
        "format": "paper",
        "source": str(source),
        "how_split": "as published, one matrix per split",
    }
    return write_benchmark(out, name, splits, origin, overwrite=overwrite)
