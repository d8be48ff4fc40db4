"""The way to the bucket for an app in a network without a way out: `python -m app.bucket_relay`.

It is an HTTP proxy that knows CONNECT, and one host to connect to. TLS is between the app and the bucket, so the relay
sees neither credentials nor files.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping

from app.domain.buckets import address_of
from app.environment import SettingsError, choice, required

PORT = 3128
_HEAD_SECONDS = 10
_CONNECT_SECONDS = 5
_STALLED_SECONDS = 60
_BLOCK_BYTES = 64 * 1024
_AT_ONCE = 64


class Relay:
    """Connects clients to one `host:port`."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, to its end."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with self._free:
                await self._connect(reader, writer)
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        wanted = head.partition(b" HTTP/1.1\r\n")[0].lower()
        if wanted != f"connect {self._host}:{self._port}".encode():
            await _answer(writer, "403 Forbidden")
            return
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            await _answer(writer, "502 Bad Gateway")
            return
        try:
            await _answer(writer, "200 Connection established")
            await _both_ways((reader, far_writer), (far_reader, writer))
        finally:
            far_writer.close()


async def _both_ways(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Pass bytes on until one side ends, or takes nothing for a minute. The app itself gives up a silent bucket."""
    tasks = [asyncio.ensure_future(_pass_on(reader, writer)) for reader, writer in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK_BYTES):
        writer.write(block)
        async with asyncio.timeout(_STALLED_SECONDS):
            await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
    await writer.drain()


def relay_from(env: Mapping[str, str]) -> Relay:
    """Return the relay to the bucket that the environment names.

    Raises:
        SettingsError: a setting is wrong or missing.
    """
    style = choice(env, "KADUN_FILES_BUCKET_STYLE", "virtual", ("virtual", "path"))
    try:
        host, port = address_of(
            required(env, "KADUN_FILES_BUCKET"),
            required(env, "KADUN_FILES_BUCKET_ENDPOINT"),
            virtual_hosted=style == "virtual",
        )
    except ValueError as error:
        raise SettingsError(f"KADUN_FILES_BUCKET, KADUN_FILES_BUCKET_ENDPOINT: {error}") from error
    return Relay(host, port)


async def _main() -> None:
    server = await asyncio.start_server(relay_from(os.environ).serve, "0.0.0.0", PORT)  # noqa: S104  # a network of its own
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except SettingsError as error:
        sys.exit(f"kadun: {error}")
