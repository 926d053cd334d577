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
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(`socketio ready web=127.0.0.1:${http.address().port}`);
});
