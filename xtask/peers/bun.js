// Bun's own WebSocket publishing (uWebSockets): what a program of a few lines gets from it.
// It speaks what the bench needs of the verbs over WebSocket, and has none of their checks.

import { randomUUID } from "node:crypto";
import { tls } from "./tls.js";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  tls: tls(),
  fetch(request, server) {
    return server.upgrade(request, { data: { id: randomUUID(), count: 0 } })
      ? undefined
      : new Response("Upgrade Required", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    backpressureLimit: 16 * 1024 * 1024,
    open(socket) {
      socket.send(JSON.stringify({ welcome: "Hello! Welcome to the actionhero api", context: "api" }));
    },
    message(socket, text) {
      const { event, room, message } = JSON.parse(text);
      if (event === "roomAdd") {
        socket.subscribe(room);
      } else if (event === "say" && socket.isSubscribed(room)) {
        const said = { message, room, from: socket.data.id, context: "user", sentAt: Date.now() };
        // To everybody in the room but the sender.
        socket.publish(room, JSON.stringify(said));
      } else {
        socket.close(1008);
        return;
      }
      socket.data.count += 1;
      socket.send(JSON.stringify({ status: "OK", context: "response", data: true, messageCount: socket.data.count }));
    },
  },
});

console.log(`bun ready web=127.0.0.1:${server.port}`);
