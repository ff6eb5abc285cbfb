"""Are embeddings over-smoothed? Figure 5 and Table 4 of the LightGNN paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.place import Place, Runs, paper_split
from recbole_lightgnn.studies.statistics import (
    angle_density,
    mean_and_interval,
    mean_average_distance,
)

MODELS = ("LRGCCF", "LightGCN", "NCL", "SGL", "SimGCL", "SimRec", "LightGNN")
DRAWN = ("LightGCN", "SGL", "SimGCL", "LightGNN")
POPULAR = 1000  # most popular users and items, of which the MAD is computed
SAMPLED = 2000  # items in the figure
_ANGLES = 181
# Table 4 of the paper.
PAPER_MAD = {
    "yelp": dict(
        zip(MODELS, (0.8747, 0.8819, 0.8929, 0.8643, 0.9103, 0.9272, 0.9404), strict=True)
    ),
    "gowalla": dict(
        zip(MODELS, (0.8206, 0.8269, 0.8236, 0.7760, 0.8595, 0.8406, 0.8742), strict=True)
    ),
}


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    return MODELS, {}


def measure(place: Place) -> dict[str, Any]:
    """Compute the MAD of each model, and the figure's densities with the first seed."""
    from recbole_lightgnn.studies.trained import chosen_row, embeddings_of, record_of, trained_run

    runs = place.train(*shared_runs())
    observed = trained_run(runs["LightGNN"][0]).dataset
    popular = [
        _most_popular(observed.inter_feat[field].numpy() - 1, number - 1)
        for field, number in (
            (observed.uid_field, observed.user_num),
            (observed.iid_field, observed.item_num),
        )
    ]
    split = paper_split(record_of(runs["LightGNN"][0])["dataset_fingerprint"])
    rows, planes = [], {}
    for name in MODELS:
        found = []
        for run in runs[name]:
            user, item = embeddings_of(run, chosen_row(record_of(run))["key"])
            top = user[popular[0]], item[popular[1]]
            found.append([mean_average_distance(part) for part in (*top, np.concatenate(top))])
            if name in DRAWN and run.seed == place.seeds[0]:
                planes[name] = _planes(item)
        columns = [mean_and_interval(column) for column in zip(*found, strict=True)]
        paper = PAPER_MAD.get(split, {}).get(name)
        rows.append([name, *(mean for mean, _ in columns), columns[2][1], paper])
    return {
        "tables": [
            {
                "name": "mad",
                "title": f"Mean average distance (MAD) of the final embeddings of the {POPULAR} "
                "most popular users and items: small values mean over-smoothing; LightGNN is the "
                "student with about a third of the entries",
                "columns": ["model", "users", "items", "both", "± (95 %)", "paper"],
                "rows": rows,
            }
        ],
        "planes": planes,
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw the sampled items in the plane, and the density of their angles."""
    planes: dict[str, dict[str, Any]] = content["planes"]
    return [_figure(content, planes, kind) for kind in ("tsne", "pca")]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words what the numbers show."""
    (table,) = content["tables"]
    mad = {row[0]: row[3] for row in table["rows"]}
    best = max(mad, key=lambda name: mad[name])
    order = ", ".join(f"{name} {mad[name]:.3f}" for name in sorted(mad, key=lambda n: -mad[n]))
    spread = {
        name: _unevenness(plane["tsne"]["density"]) for name, plane in content["planes"].items()
    }
    even = min(spread, key=lambda name: spread[name])
    return [
        f"The largest MAD is that of {best}: {order}.",
        f"The most even angles (t-SNE) are those of {even}: the densest angle has "
        + ", ".join(f"{value:.1f} times ({name})" for name, value in spread.items())
        + " the mean density.",
    ]


def _most_popular(indices: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """The nodes with the most interactions; of equal ones, the first."""
    degree = np.bincount(indices, minlength=number)
    return np.argsort(-degree, kind="stable")[:POPULAR]


def _planes(item: NDArray[np.float64]) -> dict[str, Any]:
    """Map sampled items to the plane by t-SNE and by PCA; compute densities of the angles."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(0)
    sample = item[np.sort(rng.choice(len(item), min(SAMPLED, len(item)), replace=False))]
    lengths = np.linalg.norm(sample, axis=1, keepdims=True)
    sample = sample / np.maximum(lengths, 1e-12)
    perplexity = min(30.0, (len(sample) - 1) / 3)
    ways = {
        "tsne": TSNE(2, perplexity=perplexity, init="pca", random_state=0),
        "pca": PCA(2, random_state=0),
    }
    at = np.linspace(-np.pi, np.pi, _ANGLES)
    result = {}
    for kind, way in ways.items():
        points = np.asarray(way.fit_transform(sample), dtype=np.float64)
        points -= points.mean(axis=0)
        points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
        result[kind] = {
            "points": np.round(points, 4).tolist(),
            "density": np.round(angle_density(points, at), 5).tolist(),
        }
    return result


def _unevenness(density: Sequence[float]) -> float:
    """Largest density, divided by the mean density on the circle."""
    return float(max(density) * 2 * np.pi)


def _figure(content: Mapping[str, Any], planes: Mapping[str, Any], kind: str) -> Figure:
    method = {"tsne": "t-SNE", "pca": "PCA"}[kind]
    at = np.linspace(-np.pi, np.pi, _ANGLES)
    highest = max(max(plane[kind]["density"]) for plane in planes.values())

    def draw(axes: Any) -> None:
        from scipy import stats

        grid = np.linspace(-1.3, 1.3, 120)
        mesh = np.stack(np.meshgrid(grid, grid))
        for column, (name, plane) in enumerate(planes.items()):
            above, below = axes[0, column], axes[1, column]
            points = np.array(plane[kind]["points"]).T
            density = stats.gaussian_kde(points)(mesh.reshape(2, -1)).reshape(mesh.shape[1:])
            above.contourf(grid, grid, density, levels=12, cmap="Blues")
            above.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1], title=name)
            above.grid(visible=False)
            below.fill_between(at, plane[kind]["density"], color="#0072B2", alpha=0.35)
            below.plot(at, plane[kind]["density"], color="#0072B2", linewidth=1)
            below.set(ylim=(0, 1.08 * highest), xlabel="angle")
            below.set_xticks([-np.pi, 0, np.pi], ["−π", "0", "π"])
            if column:
                above.tick_params(labelleft=False)
                below.tick_params(labelleft=False)
        axes[1, 0].set_ylabel("density")

    values = "; ".join(
        f"{name}: {_unevenness(plane[kind]['density']):.1f}" for name, plane in planes.items()
    )
    count = len(next(iter(planes.values()))[kind]["points"])
    return Figure(
        kind,
        draw,
        f"Final embeddings of {count} sampled items of {content['dataset']}, mapped to the plane "
        f"by {method} and then to the unit circle. Above: density in the plane (kernel density "
        "estimate, darker is denser). Below: density of the angle. A flat curve means that "
        "embeddings point in all directions alike; peaks mean clusters.",
        f"Largest density of the angle, divided by the mean density. {values}.",
        size=(7.2, 3.9),
        panels=(2, len(planes)),
    )
