// Socket.IO with its WebSocket transport only and without compression; everything else as it comes.

import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { Server } from "socket.io";
import { tls } from "./tls.js";

const certificate = tls();
const http = certificate ? createSecureServer(certificate) : createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});

// Clients that take commands, by the number that they gave themselves.
const targets = new Map();

io.on("connection", (socket) => {
  let count = 0;
  const answer = (acknowledge) => {
    count += 1;
    acknowledge({ status: "OK", context: "response", data: true, messageCount: count });
  };
  socket.on("roomAdd", ({ room }, acknowledge) => {
    socket.join(room);
    answer(acknowledge);
  });
  socket.on("say", ({ room, message }, acknowledge) => {
    if (!socket.rooms.has(room)) {
      socket.disconnect(true);
      return;
    }
    // To everybody in the room but the sender.
    socket.to(room).emit("message", { message, room, from: socket.id, context: "user", sentAt: Date.now() });
    answer(acknowledge);
  });
  socket.on("setCustomClientData", ({ index }, acknowledge) => {
    targets.set(index, socket);
    answer(acknowledge);
  });
  socket.on("benchEcho", ({ n }, acknowledge) => acknowledge({ echo: n }));
  socket.on("benchRoundTrips", async ({ count }, acknowledge) => {
    const latencies = [];
    for (let n = 0; n < count; n += 1) {
      const since = process.hrtime.bigint();
      const reply = await targets.get(0).timeout(5000).emitWithAck("command", { key: "bench", n, once: false });
      latencies.push(Number(process.hrtime.bigint() - since));
      if (reply.n !== n || reply.by !== 0) {
        throw new Error(`reply ${JSON.stringify(reply)} to command ${n}`);
      }
    }
    acknowledge({ bench: { latencies_ns: latencies } });
  });
  socket.on("benchCollection", async ({ n, room }, acknowledge) => {
    const since = process.hrtime.bigint();
    const replies = await io.to(room).timeout(60000).emitWithAck("command", { key: "bench", n, once: false });
    const ns = Number(process.hrtime.bigint() - since);
    acknowledge({ bench: { ns, sessions: replies.length, replied: replies.length } });
  });
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(`socketio ready web=127.0.0.1:${http.address().port}`);
});
