"""What the fakes of both front ends share: a site served on loopback, and one client's connection to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from analyzer.runtime.grpc import GrpcSite
from analyzer.runtime.http import HttpSite


@asynccontextmanager
async def connected(site: HttpSite | GrpcSite) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = await asyncio.get_running_loop().create_server(site.connection, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        site.abort()
        server.close()
        await server.wait_closed()
