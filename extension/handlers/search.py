"""Finding words in all that one may see."""

from __future__ import annotations

from cellwright.extension.endpoint import Call, Route
from cellwright.extension.handlers.models import Page
from cellwright.server.search import Found
from pydantic import BaseModel, Field


class SearchQuery(Page):
    q: str = Field(
        min_length=1, max_length=500, description="Words; each must be the beginning of a word that is found"
    )
    session: str | None = Field(None, max_length=120, description="Only in this session")


class SearchResults(BaseModel):
    results: list[Found]
    total: int = Field(description="Counted up to 1,000")
    limit: int
    offset: int


async def search(call: Call) -> SearchResults:
    asked: SearchQuery = call.query
    within = (await call.may(asked.session)).id if asked.session is not None else None
    found, total = await call.app.search.find(call.owner, asked.q, within, asked.limit, asked.offset)
    return SearchResults(results=found, total=total, limit=asked.limit, offset=asked.offset)


ROUTES = [
    Route(
        "GET",
        "/search",
        search,
        "Messages, code, outputs' text and artifact names, newest first",
        SearchQuery,
        None,
        SearchResults,
        errors=(404,),
    )
]
