"""Coming in and going out of the dashboard: a cookie for a key, good until it logs out or the time is over.

What the cookie holds is random. The server keeps its hash, with a proof made by the API key, so a session ends with a
change of the key, and one that was ended stays so over any restart; a copy of the database opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy.orm import Session

from app.db import dashboard_sessions as sessions
from app.settings import Settings


def open_session(session: Session, settings: Settings, key: str, *, before: str | None) -> str:
    """The cookie of a new session for this key, which has been checked; one that the browser had `before` ends."""
    if before is not None:
        close_session(session, before)
    cookie = secrets.token_urlsafe(32)
    id = _id(cookie)
    sessions.insert(session, id, proof=_proof(key, id), hours=settings.session_hours)
    return cookie


def key_of_session(session: Session, settings: Settings, cookie: str) -> str | None:
    """The key that the session was opened with; None where there is no such session, or no such key any more."""
    id = _id(cookie)
    proof = sessions.proof_of(session, id)
    if proof is None:
        return None
    found = None
    for key in settings.api_keys:
        if hmac.compare_digest(_proof(key.get_secret_value(), id), proof):
            found = key.get_secret_value()
    return found


def close_session(session: Session, cookie: str) -> None:
    """End the session; nothing happens if there is none."""
    sessions.remove(session, _id(cookie))


def _id(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()


def _proof(key: str, id: str) -> str:
    return hmac.new(key.encode(), f"secateur dashboard session 2 {id}".encode(), hashlib.sha256).hexdigest()
