"""An ordinary FastAPI application: it would run behind any ASGI server. Only `seen_by` looks at where it runs."""

from contextlib import asynccontextmanager
from typing import AsyncIterator, Optional

from fastapi import FastAPI, HTTPException, Request, WebSocket
from pydantic import BaseModel, Field


class Note(BaseModel):
    text: str = Field(min_length=1, max_length=200)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.notes = {1: Note(text="water the plants")}
    yield
    app.state.notes.clear()


app = FastAPI(title="Notes", version="1.0.0", lifespan=lifespan)


@app.get("/notes")
async def all_notes() -> dict[int, Note]:
    return app.state.notes


@app.get("/notes/{number}")
async def one_note(number: int) -> Note:
    if number not in app.state.notes:
        raise HTTPException(404, f"there is no note {number}")
    return app.state.notes[number]


@app.post("/notes", status_code=201)
async def add(note: Note) -> int:
    number = max(app.state.notes, default=0) + 1
    app.state.notes[number] = note
    return number


@app.get("/seen-by")
def seen_by(request: Request) -> Optional[str]:
    """Who calls, as the host of the plugin has verified."""
    user = getattr(request.state, "user", None)
    return user and user.name


@app.websocket("/shout")
async def shout(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())
