"""What Python's `websockets` sees of the browser protocol: a chat between several of its clients.

Run by websocket-python.test.js with the address of the server; ends with 0 when everything was as it should be.
"""

import asyncio
import json
import sys

import websockets

DEADLINE_S = 20
ROOM = "defaultRoom"
TEXTS = ["hello", "привет, 世界, 🦀", "<b>\u2028 \"quoted\" \\</b>", "long " * 1600]


class Peer:
    """A client whose requests are numbered by hand."""

    def __init__(self, socket):
        self.socket = socket
        self.count = 0

    async def hear(self):
        message = await asyncio.wait_for(self.socket.recv(), DEADLINE_S)
        assert isinstance(message, str), f"the server sent bytes: {message!r}"
        return json.loads(message)

    async def ask(self, event, **members):
        self.count += 1
        await self.socket.send(json.dumps({"event": event, "messageId": self.count, **members}))
        answer = await self.hear()
        assert (answer["context"], answer["messageId"]) == ("response", self.count), answer
        return answer

    async def done(self, event, **members):
        answer = await self.ask(event, **members)
        assert answer["status"] == "OK", answer
        return answer.get("data")


async def main(address):
    sockets = [
        await websockets.connect(address, **options)
        # With its usual offer of compression, without, and with pings of the WebSocket protocol all the time.
        for options in ({}, {"compression": None}, {"ping_interval": 0.1})
    ]
    peers = [Peer(socket) for socket in sockets]
    for peer in peers:
        assert await peer.hear() == {"welcome": "Hello! Welcome to the actionhero api", "context": "api"}
    ids = [(await peer.done("detailsView"))["id"] for peer in peers]
    assert len(set(ids)) == len(ids), ids

    for peer in peers:
        await peer.done("roomAdd", room=ROOM)
    view = await peers[0].done("roomView", room=ROOM)
    assert sorted(view["members"]) == sorted(ids), view

    for text in TEXTS:
        for speaker, own_id in zip(peers, ids):
            await speaker.done("say", room=ROOM, message=text)
            for listener in peers:
                if listener is not speaker:
                    heard = await listener.hear()
                    assert (heard["message"], heard["from"], heard["room"]) == (text, own_id, ROOM), heard

    number = (await peers[0].ask("action", params={"action": "randomNumber"}))["randomNumber"]
    assert 0 <= number < 1, number
    content = (await peers[0].ask("file", file="simple.html"))["content"]
    assert content.startswith("<h1>"), content

    # In fragments, as an iterator of pieces.
    await peers[1].socket.send(['{"event":"details', 'View","messageId":"cut"}'])
    assert (await peers[1].hear())["messageId"] == "cut"

    pong = await peers[1].socket.ping(b"are you there")
    await asyncio.wait_for(pong, DEADLINE_S)

    for peer in peers:
        await asyncio.wait_for(peer.socket.close(), DEADLINE_S)
        assert peer.socket.close_code == 1000, peer.socket.close_code


asyncio.run(main(sys.argv[1]))
