"""The splits of the LightGNN paper: three pickled SciPy matrices in a folder."""

from pathlib import Path

from recbole_lightgnn.data.atomic import SPLITS, dataset_folder, write_benchmark
from recbole_lightgnn.data.matrix import find_file
from recbole_lightgnn.data.unpickle import read_pickled_matrix

# As the paper's repository names them, and as related ones do.
FILES = {
    "train": ("trnMat.pkl", "train_mat.pkl"),
    "valid": ("valMat.pkl", "valid_mat.pkl"),
    "test": ("tstMat.pkl", "test_mat.pkl"),
}


def import_paper(
    source: Path, name: str, out: Path = Path("dataset"), overwrite: bool = False
) -> Path:
    """Write the paper's split in ``source`` as RecBole benchmark files under ``out/name``.

    User and item tokens are the 0-based row and column numbers of the matrices. Nothing in the
    pickles is executed (see ``unpickle``), and either all files are written or none.

    Args:
        source: folder with ``trnMat.pkl``, ``valMat.pkl``, ``tstMat.pkl`` (or ``train_mat.pkl``,
            ``valid_mat.pkl``, ``test_mat.pkl``).
        name: the dataset's name, as for ``--dataset``.
        out: the folder of datasets, RecBole's ``data_path``.
        overwrite: replace a dataset of that name.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if a file is missing or is no matrix, the shapes differ, a split is empty, the
            name cannot be used, or the dataset exists and ``overwrite`` is false.
    """
    source, out = Path(source), Path(out)
    dataset_folder(out, name, overwrite=overwrite)  # before the minutes reading may take
    splits = {split: read_pickled_matrix(find_file(source, split, FILES)) for split in SPLITS}
    origin = {
        "format": "paper",
        "source": str(source),
        "how_split": "as published, one matrix per split",
    }
    return write_benchmark(out, name, splits, origin, overwrite=overwrite)
