"""Serve embeddings on this machine in the shape of the Voyage AI API.

It stands in for the real service, so that the example runs without a network, an
account or a bill. Its vectors are hashed word counts: texts that share words are
close to each other, but it knows nothing of meaning.
"""

import argparse
import asyncio
import hashlib
import json
import math
import re
import signal
from collections import Counter
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"  # loopback only: there is no real authentication
PATH = "/v1/embeddings"
DIMENSION = 64
INPUT_TYPES = (None, "query", "document")

# Words found in nearly every sentence would make any two sentences look alike.
COMMON_WORDS = (
    "a an and are as at be by do for from has have he her his i in is it its me my "
    "not of on or our she so that the their they this to was we were will with you "
    "your"
)
STOP_WORDS = frozenset(COMMON_WORDS.split())


def split_words(text: str) -> list[str]:
    """Return the telling words of a text, or all it has if none is telling."""
    words = re.findall(r"\w+", text.lower())
    return [word for word in words if word not in STOP_WORDS] or words or [text]


def embed(text: str) -> list[float]:
    """Return a unit vector that depends on nothing but the words of the text."""
    vector = [0.0] * DIMENSION
    for word, count in Counter(split_words(text)).items():
        # Python's own hash() changes from one process to the next.
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big")
        place, odd = divmod(number, 2)
        # The sign lets words that collide cancel out on average rather than add up,
        # and the logarithm keeps a repeated word from drowning the others.
        vector[place % DIMENSION] += (-1.0 if odd else 1.0) * (1.0 + math.log(count))
    length = math.hypot(*vector)
    if length == 0.0:  # every word met its opposite: rare, but not a direction
        vector[0] = length = 1.0
    return [value / length for value in vector]


def refuse(status: int, detail: str) -> web.Response:
    """Build an error answer the way Voyage does."""
    return web.json_response({"detail": detail}, status=status)


def find_fault(body: Any) -> str | None:
    """Say what is wrong with a request, or return None if it can be answered."""
    if not isinstance(body, dict):
        return "The request body is not a JSON object."
    texts = body.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not all(isinstance(item, str) for item in texts):
        return "`input` must be a string or a list of strings."
    if not texts or not all(item.strip() for item in texts):
        return "`input` must be neither empty nor contain an empty string."
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "`model` must be the name of a model."
    if body.get("input_type") not in INPUT_TYPES:
        return "`input_type` must be null, 'query' or 'document'."
    return None


async def answer(request: web.Request) -> web.Response:
    """Answer POST /v1/embeddings."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        return refuse(401, "Provide an API key: 'Authorization: Bearer KEY'.")
    try:
        body = json.loads(await request.read())
    except ValueError:  # also covers bytes that are not text
        return refuse(400, "The request body is not valid JSON.")
    if fault := find_fault(body):
        return refuse(400, fault)

    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return web.json_response(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": embed(text), "index": index}
                for index, text in enumerate(texts)
            ],
            "model": body["model"],
            "usage": {"total_tokens": sum(len(text.split()) for text in texts)},
        }
    )


async def serve(port: int) -> None:
    """Answer requests until the process is asked to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    app = web.Application()
    app.router.add_post(PATH, answer)
    # A client may keep its connection open; one second is enough for an answer.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        # Port 0 lets the system choose, so the port to tell is the bound one.
        bound = runner.addresses[0][1]
        # A program that waits for this line reads it through a pipe, hence flush.
        print(f"Listening on http://{HOST}:{bound}{PATH}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Read the command line and run the server."""
    parser = argparse.ArgumentParser(description="Serve embeddings on this machine.")
    parser.add_argument(
        "--port",
        type=int,
        default=8765,
        help="port to listen on; 0 takes any free one (default: %(default)s)",
    )
    port = parser.parse_args().port
    try:
        asyncio.run(serve(port))
    except (OSError, OverflowError) as error:  # port taken, forbidden, or no port
        msg = f"cannot listen on {HOST}:{port}: {error}"
        raise SystemExit(msg) from error


if __name__ == "__main__":
    main()
