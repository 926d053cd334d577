// A wire between clients and a server that can be cut: both sides lose their connection without a word.

import net from 'node:net'

import { emitted } from './deadline.js'

export class Wire {
  #listener
  #pairs = new Set()
  /** How many connections were made over it so far. */
  connections = 0

  /** A wire to `target`, a `{host, port}`. Its own `host` and `port` are for the clients. */
  static async to (target) {
    const wire = new Wire()
    wire.#listener = net.createServer((near) => {
      wire.connections++
      const far = net.connect(target.port, target.host)
      const pair = { near, far }
      wire.#pairs.add(pair)
      for (const [socket, other] of [[near, far], [far, near]]) {
        socket.setNoDelay()
        socket.pipe(other)
        socket.on('error', () => {})
        socket.on('close', () => {
          other.destroy()
          wire.#pairs.delete(pair)
        })
      }
    })
    wire.#listener.listen(0, '127.0.0.1')
    await emitted(wire.#listener, 'listening')
    wire.host = '127.0.0.1'
    wire.port = wire.#listener.address().port
    return wire
  }

  /** Ends every connection. New ones are taken. */
  cut () {
    for (const { near, far } of this.#pairs) {
      near.destroy()
      far.destroy()
    }
  }

  close () {
    this.#listener.close()
    this.cut()
  }
}
