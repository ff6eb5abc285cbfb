"""What the service is asked and what it answers. Its OpenAPI document is made of these."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_QUESTIONS = 256  # users or items asked about in one call
MOST_ITEMS = 10_000  # in a list of a user's items, of pairs, or of what may be recommended
MOST_K = 1000
MOST_CHARACTERS = 512  # of a name


def _whole(value: Any) -> Any:
    """In JSON, 10.0 is a whole number as 10 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Name = Annotated[
    str,
    Field(max_length=MOST_CHARACTERS, description="as the model file calls it, always a string"),
]
K = Annotated[
    int,
    Field(ge=1, le=MOST_K, description="how many items; no more than the catalogue has"),
    BeforeValidator(_whole),
]
Questions = Annotated[list[Name], Field(min_length=1, max_length=MOST_QUESTIONS)]
Items = Annotated[list[Name], Field(max_length=MOST_ITEMS)]
Seen = Annotated[bool, Field(description="leave out the interactions that the file holds")]


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class OneUser(BaseModel):
    """The best items for a user."""

    model_config = ConfigDict(extra="forbid")  # not strict: in a URL, all is text

    user: Name
    k: K = 10
    exclude_seen: Seen = True


class Pair(BaseModel):
    """A user and an item."""

    model_config = ConfigDict(extra="forbid")

    user: Name
    item: Name


class Users(_Asked):
    """The best items for each of several users."""

    users: Questions
    k: K = 10
    exclude_seen: Seen = True
    exclude_items: Annotated[Items, Field(description="what to leave out besides")] = []
    filter_items: Annotated[
        Items | None, Field(description="the only items that may be recommended")
    ] = None


class Pairs(_Asked):
    """The scores of users for items."""

    pairs: Annotated[
        list[Annotated[list[Name], Field(min_length=2, max_length=2)]],
        Field(max_length=MOST_ITEMS, description="a user and an item each"),
    ]


class Similar(_Asked):
    """The items most like each of several."""

    items: Questions
    k: K = 10


class History(_Asked):
    """The best items for a user that the model does not know, by the items it had."""

    items: Annotated[Items, Field(min_length=1)]
    k: K = 10


class Ranked(BaseModel):
    """Items from the best on, and their scores; fewer than k where no more are left."""

    items: list[str]
    scores: list[float]


class Answers(BaseModel):
    """Of each user or item, in the order of the request."""

    answers: list[Ranked]


class Scores(BaseModel):
    """Of each pair, in the order of the request."""

    scores: list[float]


class Explanation(BaseModel):
    """A score as the sum of what carries it: ``own`` and all contributions."""

    score: float
    own: Annotated[float, Field(description="what the user's own embedding gives")]
    items: Annotated[list[str], Field(description="of the user's kept interactions")]
    weights: Annotated[list[float], Field(description="learned, of each interaction")]
    contributions: Annotated[list[float], Field(description="of each, the largest first")]


class About(BaseModel):
    """What is served."""

    file: str
    loaded: Annotated[str, Field(description="when, in ISO 8601")]
    users: int
    items: int
    form: Annotated[str, Field(description="`graph`, or `final`: no fold_in, no explain")]
    approximate: Annotated[
        float | None, Field(description="share of the items that are looked at, if not all")
    ]
    card: Annotated[dict[str, Any], Field(description="where it comes from and what it reached")]


class Health(BaseModel):
    """Whether there is a model to answer from, and how its last replacement went."""

    status: str
    loaded: str
    reload_error: Annotated[
        str | None, Field(description="why the file last found is not served, if so")
    ]


class Problem(BaseModel):
    """Why a request is not answered."""

    what: str
    got: str | None = None
    expected: str | None = None
