"""Serve an exported model over HTTP. Needs NumPy, FastAPI and uvicorn (extra ``serve``)."""
