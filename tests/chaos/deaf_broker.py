"""A broker whose fetches bring nothing, without failing: a relay that answers them with an answer of before."""

from __future__ import annotations

import asyncio
import struct

_FETCH = 1


class DeafBroker:
    """Relays Kafka's protocol, one request at a time per connection. While `deaf`, a fetch gets the last empty answer
    that came through, under its own number: no record, no error, the log's end of then."""

    def __init__(self, port: int, broker_port: int) -> None:
        self.deaf = False
        self.replayed = 0
        self._ports = (port, broker_port)
        self._fetched = b""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> DeafBroker:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._ports[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _relay(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        broker, requests = await asyncio.open_connection("127.0.0.1", self._ports[1])
        try:
            while True:
                request = await _message(client)
                kind, number = struct.unpack_from(">h", request)[0], request[4:8]
                if kind == _FETCH and self.deaf and self._fetched:
                    await asyncio.sleep(0.03)  # what a broker waits for records
                    answer = number + self._fetched
                    self.replayed += 1
                else:
                    requests.write(struct.pack(">i", len(request)) + request)
                    answer = await _message(broker)
                    if kind == _FETCH and (not self._fetched or len(answer) <= len(self._fetched) + 4):
                        # The shortest is one without records.
                        self._fetched = answer[4:]
                answers.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            requests.close()
            answers.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)
