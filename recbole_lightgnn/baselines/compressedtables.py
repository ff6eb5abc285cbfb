"""Compression of a trained model's embeddings without further training."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.solved import SolvedRecommender
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.serving.coding import ArrayReader, decode_dense, encode_dense
from recbole_lightgnn.serving.container import Arrays

_VALUES = {"int8": "int8", "svd": "float32"}  # number type of tables that are not quantized
_ITERATIONS = 25  # of k-means


class CompressedTables(TaughtRecommender, SolvedRecommender):
    r"""Embeddings of a trained model, the teacher, compressed without further training.

    X and Y are the teacher's final embeddings, so that :math:`XY^\top` has all scores. With
    ``rank`` k, X and Y are first replaced by the factors of the best approximation of rank k of
    :math:`XY^\top` (`truncated`). ``compression`` is the form in which they are stored:

    - ``int8``: a byte for each number, and a scale for each column, as in an exported file.
    - ``svd``: float32. ``rank`` must be given.
    - ``pq``: ``n_blocks`` bytes for each row, and two codebooks (`product_quantized`).
    - ``opq``: the same after a rotation of each table (`rotated`).

    The model ranks by the decoded embeddings. The state dict has only the compressed arrays,
    without RecBole's padding rows. The model's size in bytes is the size of these arrays.

    Sources: Eckart and Young, "The Approximation of One Matrix by Another of Lower Rank",
    Psychometrika 1936; Jégou et al., "Product Quantization for Nearest Neighbor Search", TPAMI
    2011; Ge et al., "Optimized Product Quantization", TPAMI 2014.
    """

    needs_teacher_tables = True

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.compression = self.settings.text("compression")

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Raise InputError if a rank, or faiss, is needed and missing."""
        compression = settings["compression"]
        if compression == "svd" and settings["rank"] is None:
            raise InputError("compression=svd needs a rank, got none: set it, such as --rank=16")
        if compression not in _VALUES and find_spec("faiss") is None:
            raise InputError(
                f"compression={compression} needs faiss, which is not installed: "
                "pip install 'recbole-lightgnn[ann]'"
            )

    @staticmethod
    def check_teacher_width(settings: Mapping[str, Any], width: int) -> None:
        """Raise InputError if ``rank``, or ``n_blocks``, exceeds the number of columns."""
        rank = settings["rank"]
        if rank is not None and rank > width:
            raise InputError(
                f"rank must be at most the width of the teacher's final embeddings ({width}), got "
                f"{rank}: lower it"
            )
        columns, blocks = rank or width, settings["n_blocks"]
        if settings["compression"] not in _VALUES and blocks > columns:
            raise InputError(
                f"n_blocks must be at most the number of columns to compress ({columns}), got "
                f"{blocks}: lower it"
            )

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Set the teacher, after a check that it can be compressed; see the base class."""
        super().distill_from(teacher, prefix=prefix)
        self.teacher_tables(teacher)

    def solve(self) -> None:
        """Compress the teacher's final embeddings."""
        if self.teacher is None:
            raise RuntimeError("there are no embeddings to compress before distill_from()")
        user, item = (table[1:].cpu().numpy() for table in self.teacher_tables(self.teacher))
        if (rank := self.settings["rank"]) is not None:
            user, item = truncated(user, item, rank)
        seed = int(torch.randint(1 << 31, ()))
        arrays = self._encoded("user", user, seed) | self._encoded("item", item, seed)
        self._set({key.replace(".", "_"): torch.from_numpy(array) for key, array in arrays.items()})

    def _encoded(self, side: str, table: np.ndarray, seed: int) -> Arrays:
        """Compress one table, ``user`` or ``item``; the names of the arrays begin with its name."""
        if self.compression in _VALUES:
            return encode_dense(side, table, _VALUES[self.compression])
        n_blocks = self.settings.integer("n_blocks")
        n_centroids = self.settings.integer("n_centroids")
        arrays: Arrays = {}
        if self.compression == "opq":
            table, arrays[f"{side}.rotation"] = rotated(table, n_blocks, n_centroids)
        codes, codebook = product_quantized(table, n_blocks, n_centroids, seed)
        return arrays | {f"{side}.codes": codes, f"{side}.codebook": codebook}

    def _set(self, arrays: Mapping[str, Tensor]) -> None:
        for name, array in arrays.items():
            self.register_buffer(name, array.to(self.device))

    def load_state_dict(self, state: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Load a state dict, in which the arrays may have any length."""
        self._set(
            {name: value for name, value in state.items() if name.startswith(("user_", "item_"))}
        )
        return super().load_state_dict(state, *args, **kwargs)

    def encode(self) -> tuple[Tensor, Tensor]:
        """Decode the embeddings; zeros before :meth:`solve`. See `GraphRecommender.encode`."""
        return self._decoded("user", self.n_users), self._decoded("item", self.n_items)

    def _decoded(self, side: str, n_rows: int) -> Tensor:
        arrays = {
            name.replace("_", ".", 1): buffer.cpu().numpy()
            for name, buffer in self.named_buffers()
            if name.startswith(side)
        }
        if not arrays:
            return torch.zeros(n_rows, 1, device=self.device)
        if self.compression in _VALUES:
            shape = n_rows - 1, arrays[f"{side}.values"].size // (n_rows - 1)
            reader = ArrayReader(arrays)
            rows = decode_dense(side, reader, shape, _VALUES[self.compression])
        else:
            rows = decoded_product(arrays[f"{side}.codes"], arrays[f"{side}.codebook"])
            if (rotation := arrays.get(f"{side}.rotation")) is not None:
                rows = rows @ rotation
        return torch.from_numpy(np.pad(rows, ((1, 0), (0, 0)))).to(self.device)

    def _entries(self, buffer: Tensor) -> int:
        return buffer.numel()  # also integers: every number of the arrays


def truncated(user: np.ndarray, item: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Compute two factors of the best approximation of :math:`XY^\top` with a given rank.

    .. math:: X = Q_X R_X,\quad Y = Q_Y R_Y,\quad R_X R_Y^\top = U S V^\top,\qquad
              X_k = Q_X U_k S_k^{1/2},\quad Y_k = Q_Y V_k S_k^{1/2}

    :math:`X_k Y_k^\top` has the smallest error in the Frobenius norm (Eckart and Young, 1936). The
    matrix :math:`XY^\top` is never stored.

    Args:
        user: X. Shape: (users, width)
        item: Y. Shape: (items, width)
        rank: k; lowered to the number of users, or of items, if that number is smaller.

    Returns:
        The factors, float32. Shapes: (users, rank), (items, rank)
    """
    left, right = (np.linalg.qr(table.astype(np.float64)) for table in (user, item))
    u, s, v = np.linalg.svd(left.R @ right.R.T, full_matrices=False)
    root = np.sqrt(s[:rank])
    factors = left.Q @ (u[:, :rank] * root), right.Q @ (v[:rank].T * root)
    return factors[0].astype(np.float32), factors[1].astype(np.float32)


def product_quantized(
    table: np.ndarray, n_blocks: int, n_centroids: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a table into blocks of columns, and replace each row of a block by a centroid.

    k-means learns the centroids of each block. If a block has at most ``n_centroids`` distinct
    rows, these are the centroids, and nothing is lost.

    Args:
        table: the table. Shape: (rows, width)
        n_blocks: m, from 1 to the width. If m does not divide the width, the first blocks have one
            column more than the other blocks.
        n_centroids: largest number of centroids of a block, at most 256.
        seed: random seed of k-means.

    Returns:
        First, the number of the centroid for each row and block, uint8. Second, the codebook: the
        centroids of each block, in the columns of the block. If a block has fewer centroids than
        another, zeros follow. Shapes: (rows, n_blocks), (centroids, width)
    """
    blocks = np.array_split(np.ascontiguousarray(table, np.float32), n_blocks, axis=1)
    found = [_clustered(block, n_centroids, seed) for block in blocks]
    codes = np.stack([code for code, _ in found], axis=1).astype(np.uint8)
    size = max(len(centroids) for _, centroids in found)
    padded = [np.pad(part, ((0, size - len(part)), (0, 0))) for _, part in found]
    return codes, np.concatenate(padded, axis=1)


def _clustered(block: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of each row, and the centroids: all distinct rows if few."""
    distinct, code = np.unique(block, axis=0, return_inverse=True)
    if len(distinct) <= count:
        return code.reshape(-1), distinct
    import faiss

    kmeans = faiss.Kmeans(
        block.shape[1], count, niter=_ITERATIONS, seed=seed, min_points_per_centroid=1
    )
    block = np.ascontiguousarray(block)
    kmeans.train(block)
    code, centroids = kmeans.assign(block)[1], np.asarray(kmeans.centroids)
    return code, centroids


def decoded_product(codes: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Rebuild the table that `product_quantized` replaced by codes.

    Args:
        codes: number of the centroid for each row and block. Shape: (rows, n_blocks)
        codebook: centroids of each block, in the columns of the block. Shape: (centroids, width)

    Returns:
        The table. Shape: (rows, width)
    """
    blocks = np.array_split(codebook, codes.shape[1], axis=1)
    parts = [block[code] for block, code in zip(blocks, codes.T, strict=True)]
    return np.concatenate(parts, axis=1)


def rotated(table: np.ndarray, n_blocks: int, n_centroids: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotate a table so that product quantization loses less (Ge et al., TPAMI 2014).

    Args:
        table: the table T. Shape: (rows, width)
        n_blocks: number of blocks of the later quantization.
        n_centroids: number of centroids of each block, rounded down to a power of 2.

    Returns:
        First, the rotated table T R^T; its width is a multiple of ``n_blocks``. Second, the
        rotation R, with orthonormal columns: T R^T R = T.
        Shapes: (rows, rotated width), (rotated width, width)
    """
    import faiss

    table = np.ascontiguousarray(table, np.float32)
    rows, width = table.shape
    wide = -(-width // n_blocks) * n_blocks
    bits = int(np.log2(min(n_centroids, rows)))
    quantizer = faiss.ProductQuantizer(wide, n_blocks, bits)
    quantizer.cp.min_points_per_centroid = 1  # with fewer, faiss warns on standard error
    learner = faiss.OPQMatrix(width, n_blocks, wide)
    learner.pq = quantizer
    # With fewer rows than columns, faiss writes outside its arrays and crashes: repeat the rows.
    learner.train(np.tile(table, (-(-wide // rows), 1)))
    rotation = faiss.vector_to_array(learner.A).reshape(wide, width)
    return table @ rotation.T, rotation
