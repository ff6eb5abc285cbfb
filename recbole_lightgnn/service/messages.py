"""Requests and responses of the service. The OpenAPI document is generated from these classes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_QUERIES = 256  # users or items to answer for in one request
MAX_ITEMS = 10_000  # items in a history or filter, or pairs to score
MAX_K = 1000  # items per answer
MAX_NAME_LENGTH = 512  # characters


def _to_integer(value: Any) -> Any:
    """Convert 10.0 to 10: JSON does not distinguish integers from other numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Types of fields
Name = Annotated[
    str,
    Field(max_length=MAX_NAME_LENGTH, description="name in the model file, always a string"),
]
K = Annotated[
    int,
    Field(ge=1, le=MAX_K, description="number of items, at most the size of the catalogue"),
    BeforeValidator(_to_integer),
]
Queries = Annotated[list[Name], Field(min_length=1, max_length=MAX_QUERIES)]
Items = Annotated[list[Name], Field(max_length=MAX_ITEMS)]
ExcludeSeen = Annotated[bool, Field(description="leave out the interactions in the model file")]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class OneUser(BaseModel):
    """Query for the best items of one user."""

    model_config = ConfigDict(extra="forbid")  # not strict: all values in a URL are text

    user: Name
    k: K = 10
    exclude_seen: ExcludeSeen = True


class Pair(BaseModel):
    """Query for one user and one item."""

    model_config = ConfigDict(extra="forbid")

    user: Name
    item: Name


class Users(_Body):
    """Request for the best items of several users."""

    users: Queries
    k: K = 10
    exclude_seen: ExcludeSeen = True
    exclude_items: Annotated[
        Items, Field(description="items to leave out for all of these users")
    ] = []
    filter_items: Annotated[
        Items | None, Field(description="the only items that may be recommended")
    ] = None


class Pairs(_Body):
    """Request for the scores of user-item pairs."""

    pairs: Annotated[
        list[Annotated[list[Name], Field(min_length=2, max_length=2)]],
        Field(max_length=MAX_ITEMS, description="lists of a user and an item"),
    ]


class Similar(_Body):
    """Request for the items most similar to each of several items."""

    items: Queries
    k: K = 10


class History(_Body):
    """Request for the best items for a new user, computed from the items that the user likes."""

    items: Annotated[Items, Field(min_length=1)]
    k: K = 10


class Ranked(BaseModel):
    """Top-k items, best first, and their scores; fewer than k if fewer items can be recommended."""

    items: list[str]
    scores: list[float]


class Answers(BaseModel):
    """Response: one list of items per requested user or item, in the order of the request."""

    answers: list[Ranked]


class Scores(BaseModel):
    """Response: one score per requested pair, in the order of the request."""

    scores: list[float]


class Explanation(BaseModel):
    """Response: a score as the sum of ``own`` and all contributions."""

    score: float
    own: Annotated[float, Field(description="part of the user's own embedding")]
    items: Annotated[list[str], Field(description="items of the user's kept interactions")]
    weights: Annotated[list[float], Field(description="learned weight of each interaction")]
    contributions: Annotated[
        list[float], Field(description="part of each interaction, largest first")
    ]


class About(BaseModel):
    """Response: description of the model that answers requests."""

    file: str
    loaded: Annotated[str, Field(description="time of loading, in ISO 8601")]
    users: int
    items: int
    form: Annotated[
        str, Field(description="`graph`; or `final`, which supports no fold_in and no explain")
    ]
    approximate: Annotated[
        float | None, Field(description="share of the items that are searched; null: all, exactly")
    ]
    card: Annotated[dict[str, Any], Field(description="origin, settings and metrics of the model")]


class Health(BaseModel):
    """Response: status of the service, and result of the model's last reload."""

    status: str
    loaded: str
    reload_error: Annotated[
        str | None, Field(description="reason why the newest file is not served, or null")
    ]


class Problem(BaseModel):
    """Error response: what is wrong, what the client sent, what the service expects."""

    what: str
    got: str | None = None
    expected: str | None = None
