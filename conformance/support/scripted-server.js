// A server that does what a test tells it to: for what a real one does rarely, late, or never.

import { WebSocketServer } from 'ws'

import { within } from './deadline.js'

export class ScriptedServer {
  /** The connections so far, in the order of coming. */
  links = []
  #server
  #wake = () => {}

  static async start () {
    const scripted = new ScriptedServer()
    const server = scripted.#server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
    server.on('connection', (socket) => {
      scripted.links.push(new Link(socket))
      scripted.#wake()
    })
    await within('a port', new Promise((resolve) => server.once('listening', resolve)))
    scripted.url = `ws://127.0.0.1:${server.address().port}/primus`
    return scripted
  }

  /** The connection of this number, counted from 0, once it is there. */
  async link (number) {
    while (this.links.length <= number) {
      await within('a connection', new Promise((resolve) => { this.#wake = resolve }))
    }
    return this.links[number]
  }

  stop () {
    for (const { socket } of this.links) socket.terminate()
    this.#server.close()
  }
}

class Link {
  #requests = []
  #wake = () => {}

  constructor (socket) {
    this.socket = socket
    this.closed = new Promise((resolve) => socket.once('close', resolve))
    socket.on('message', (text) => {
      this.#requests.push(JSON.parse(text))
      this.#wake()
    })
  }

  /** The next thing that the client has sent. */
  async request () {
    while (this.#requests.length === 0) {
      await within('a request', new Promise((resolve) => { this.#wake = resolve }))
    }
    return this.#requests.shift()
  }

  send (message) {
    this.socket.send(JSON.stringify(message))
  }

  answer (request, members) {
    this.send({ context: 'response', messageId: request.messageId, ...members })
  }

  /** Takes what a client sends when it connects, and says that it is in `rooms`. */
  async greet (rooms = [], id = 'somebody') {
    this.send({ welcome: 'hello', context: 'api' })
    const requests = []
    do requests.push(await this.request())
    while (requests.at(-1).event !== 'detailsView')
    for (const request of requests.slice(0, -1)) this.answer(request, { status: 'OK', data: true })
    this.answer(requests.at(-1), { status: 'OK', data: { id, fingerprint: null, rooms } })
    return requests
  }
}
