"""A shard in Python's `websockets`: it registers, pings, loses its connection, resumes and gets what it missed.

Run by gateway-python.test.js with the addresses of the gateway and of its events, the key, the id and the secret; ends with 0 when
everything was as it should be.
"""

import asyncio
import json
import sys
import urllib.request

import websockets

DEADLINE_S = 20
PONG = {"type": 3, "service": "gateway", "event": "GATEWAY_PING", "data": {}}
INVALID = {"session_id": None, "application_bot": None, "shards_config": [], "shards_stats": []}


class Shard:
    def __init__(self, socket):
        self.socket = socket

    async def hear(self):
        message = await asyncio.wait_for(self.socket.recv(), DEADLINE_S)
        assert isinstance(message, str), f"the server sent bytes: {message!r}"
        return json.loads(message)

    async def ask(self, message):
        await self.socket.send(json.dumps(message))
        return await self.hear()


async def main(gateway, events, key, identification, secret):
    def d(**more):
        return {"public_key": key, "secret": secret, "shard_in": 0, "flags": 0, **more}

    async def publish(number):
        request = urllib.request.Request(
            events,
            json.dumps({"event": "NUMBER", "data": number}).encode(),
            {"Content-Type": "application/json", "Identification": identification, "Secret": secret},
        )
        answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=DEADLINE_S)
        assert answer.status == 202, answer.status

    # With its usual offer of compression, without, and with pings of the WebSocket protocol all the time.
    for number, options in enumerate(({}, {"compression": None}, {"ping_interval": 0.05})):
        first = Shard(await websockets.connect(gateway, **options))
        ready = await first.ask({"type": 1, "d": d()})
        assert ready["event"] == "GATEWAY_READY", ready
        session = ready["data"]["session_id"]
        for _ in range(3):
            assert await first.ask({"type": 3}) == PONG
        await publish(1)
        event = await first.hear()
        assert (event["event"], event["data"], event["s"]) == ("NUMBER", 1, 1), event
        await first.socket.close()
        for missed in (2, 3):
            await publish(missed)

        second = Shard(await websockets.connect(gateway, **options))
        resumed = await second.ask({"type": 5, "d": d(session_id=session, seq=1)})
        assert resumed["event"] == "GATEWAY_RESUMED", resumed
        assert resumed["data"]["session_id"] == session
        for missed in (2, 3):
            event = await second.hear()
            assert (event["data"], event["s"]) == (missed, missed), event
        assert await second.ask({"type": 3, "d": {"seq": 3}}) == PONG
        refused = await Shard(await websockets.connect(gateway, **options)).ask({"type": 5, "d": d(session_id="a" * 86)})
        assert (refused["event"], refused["data"]) == ("GATEWAY_INVALID", INVALID), refused
        await second.socket.close(4100)
        assert second.socket.close_code == 4100, (number, second.socket.close_code)


asyncio.run(main(*sys.argv[1:]))
