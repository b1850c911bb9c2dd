"""Ask an embedding service for the vector of a text and keep its raw answer."""

# Heavy packages are imported inside the methods, so that reading this module
# (for its options, or to compile a pipeline) needs none of them.

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalAsyncTask
from tigerflow.utils import SetupContext


class Embed(LocalAsyncTask):
    """Post each text to a service that speaks the Voyage embeddings protocol."""

    class Params:
        """Where to send the texts, and which model is to embed them."""

        url: Annotated[
            str,
            typer.Option(help="Address of the embeddings endpoint"),
        ] = "http://127.0.0.1:8765/v1/embeddings"
        model: Annotated[
            str,
            typer.Option(help="Embedding model name"),
        ] = "voyage-3.5"

    @staticmethod
    async def setup(context: SetupContext) -> None:
        """Open one HTTP session, so that all files share its connections."""
        import os

        import aiohttp

        # A key belongs in the environment: a parameter would end up in the
        # pipeline file and in the process list. The bundled server takes any key.
        key = os.environ.get("VOYAGE_API_KEY", "").strip() or "offline"
        context.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=60),
        )

    @staticmethod
    async def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        """Embed one text file."""
        import aiofiles
        import aiohttp

        async with aiofiles.open(input_file, encoding="utf-8") as file:
            text = await file.read()

        request = {
            "input": text.strip(),
            "model": context.model,
            "input_type": "document",
        }
        try:
            async with context.session.post(context.url, json=request) as response:
                status, answer = response.status, await response.text()
                # For a service with a rate limit, `await asyncio.sleep(1)` here and
                # a concurrency_limit of N keep it at N requests a second.
        except TimeoutError as error:
            msg = f"no answer from {context.url} within 60 seconds"
            raise TimeoutError(msg) from error
        except aiohttp.ClientError as error:
            msg = (
                f"cannot reach the embedding service at {context.url}: {error!s}; "
                "is embedding_server.py running, and is the `url` parameter right?"
            )
            raise ConnectionError(msg) from error

        # The service explains a refusal in the body, which `raise_for_status()`
        # would throw away.
        if status != HTTPStatus.OK:
            msg = f"{context.url} answered {status}: {answer.strip()[:500]}"
            raise RuntimeError(msg)

        async with aiofiles.open(output_file, "w", encoding="utf-8") as file:
            await file.write(answer)

    @staticmethod
    async def teardown(context: SetupContext) -> None:
        """Close the session and the connections it still holds."""
        await context.session.close()


Embed.cli()
