// A WebSocket library that knows nothing of this protocol, for what the transport itself promises.

import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'

import WebSocket from 'ws'

import { emitted, within } from './support/deadline.js'
import { startServer } from './support/server.js'

const ROOM = 'defaultRoom'

const opened = []

afterEach(() => {
  for (const { socket } of opened.splice(0)) socket.terminate()
})

/** A peer whose requests are numbered by hand. */
class Peer {
  #messages = []
  #wake = () => {}
  #lastId = 0

  static async open (server, options = {}) {
    const peer = new Peer()
    opened.push(peer)
    const socket = peer.socket = new WebSocket(server.web.socket, options)
    socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false, 'the server sent bytes')
      peer.#messages.push(JSON.parse(data))
      peer.#wake()
    })
    socket.on('error', (error) => { peer.error = error })
    peer.closed = new Promise((resolve) => socket.on('close', (code, reason) => resolve([code, String(reason)])))
    await emitted(socket, 'open')
    assert.deepEqual(await peer.hear(), { welcome: 'Hello! Welcome to the actionhero api', context: 'api' })
    return peer
  }

  async hear () {
    while (this.#messages.length === 0) await within('a message', new Promise((resolve) => { this.#wake = resolve }))
    return this.#messages.shift()
  }

  async ask (request) {
    const messageId = ++this.#lastId
    this.socket.send(JSON.stringify({ ...request, messageId }))
    const answer = await this.hear()
    assert.equal(answer.messageId, messageId)
    return answer
  }

  /** Closes as one should, and gives what the server says to that. */
  close () {
    this.socket.close(1000)
    return within('the close', this.closed)
  }
}

describe('a peer that knows only WebSockets', () => {
  let server

  before(async () => { server = await startServer() })

  after(() => server.stop())

  it('closes with 1000 and hears 1000', async () => {
    const peer = await Peer.open(server)
    assert.deepEqual(await peer.close(), [1000, ''])
  })

  it('may send a message in fragments, with pings between them', async () => {
    const peer = await Peer.open(server)
    const text = Buffer.from(JSON.stringify({ event: 'say', room: ROOM, message: 'на куски 🦀', messageId: 'cut' }))
    const ponged = emitted(peer.socket, 'pong')
    for (const byte of text) peer.socket.send(Buffer.of(byte), { fin: false, binary: false })
    peer.socket.ping('between')
    peer.socket.send('', { fin: true, binary: false })
    assert.equal(String((await ponged)[0]), 'between')
    const { status, messageId } = await peer.hear()
    assert.deepEqual([status, messageId], ['connection not in this room', 'cut'])
    await peer.close()
  })

  it('gets each ping back', async () => {
    const peer = await Peer.open(server)
    for (const payload of ['', 'a', 'x'.repeat(125)]) {
      const ponged = emitted(peer.socket, 'pong')
      peer.socket.ping(payload)
      assert.equal(String((await ponged)[0]), payload)
    }
    await peer.close()
  })

  it('asks nothing with pongs or text that is no JSON', async () => {
    const peer = await Peer.open(server)
    peer.socket.pong('unasked')
    peer.socket.send('not json')
    assert.equal((await peer.ask({ event: 'detailsView' })).messageCount, 1)
    await peer.close()
  })

  it('may send its text in binary frames', async () => {
    const peer = await Peer.open(server)
    peer.socket.send(Buffer.from('{"event":"nothing"}'), { binary: true })
    assert.equal((await peer.hear()).messageCount, 1)
    await peer.close()
  })

  it('is answered the first sub-protocol that it offers', async () => {
    const primus = new URL(server.web.socket)
    for (const path of [primus.pathname, '/websocket']) {
      const socket = new WebSocket(new URL(path, primus), ['chat.v2', 'chat'])
      await emitted(socket, 'open')
      assert.equal(socket.protocol, 'chat.v2')
      socket.terminate()
    }
  })

  it('is told that a message is no text with 1007', async () => {
    const peer = await Peer.open(server)
    peer.socket.send(Buffer.of(0x22, 0xc3, 0x28, 0x22), { binary: false })
    assert.equal((await within('the close', peer.closed))[0], 1007)
  })

  it('is told that a message is too long with 1009', async () => {
    const peer = await Peer.open(server)
    const long = (bytes) => JSON.stringify({ event: 'x'.repeat(bytes - 12) })
    peer.socket.send(long(65_536))
    assert.equal((await peer.hear()).status, 'verb not found or not allowed')
    peer.socket.send(long(65_537))
    assert.equal((await within('the close', peer.closed))[0], 1009)
  })

  for (const [what, bytes] of [
    ['a frame without a mask', [0x81, 0x02, 0x7b, 0x7d]],
    ['an opcode that is not used', [0x83, 0x80, 1, 2, 3, 4]],
    ['a reserved bit', [0xc1, 0x80, 1, 2, 3, 4]],
    ['a fragment of nothing', [0x80, 0x80, 1, 2, 3, 4]],
    ['a ping in fragments', [0x09, 0x80, 1, 2, 3, 4]],
    ['a close code that nobody may send', [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed]]
  ]) {
    it(`is told that ${what} breaks the protocol with 1002`, async () => {
      const peer = await Peer.open(server)
      peer.socket._socket.write(Buffer.from(bytes))
      assert.equal((await within('the close', peer.closed))[0], 1002)
    })
  }

  it('gets no extension unless the server has it switched on', async () => {
    const peer = await Peer.open(server, { perMessageDeflate: true })
    assert.equal(peer.socket.extensions, '')
    assert.equal((await peer.ask({ event: 'detailsView' })).status, 'OK')
    await peer.close()
  })

  it('is told to come back at a planned stop, with 1012', async (test) => {
    const other = await startServer()
    test.after(() => other.kill())
    const peer = await Peer.open(other)
    const [[code]] = await Promise.all([within('the close', peer.closed), other.stop()])
    assert.equal(code, 1012)
  })
})

describe('a server with compression', () => {
  it('speaks it with those who offer it, and plainly with the others', async (test) => {
    const server = await startServer({ 'servers.websocket.compression': true })
    test.after(() => server.kill())
    const peers = [
      await Peer.open(server, { perMessageDeflate: { threshold: 0 } }),
      await Peer.open(server, { perMessageDeflate: { threshold: 0, clientNoContextTakeover: true, serverNoContextTakeover: true } }),
      await Peer.open(server, { perMessageDeflate: false })
    ]
    const extensions = peers.map((peer) => peer.socket.extensions)
    assert.deepEqual(extensions.map((text) => text.split(';')[0]), ['permessage-deflate', 'permessage-deflate', ''])
    for (const peer of peers) assert.equal((await peer.ask({ event: 'roomAdd', room: ROOM })).status, 'OK')
    for (const message of ['short', 'ещё раз 🦀 '.repeat(1000), 'ещё раз 🦀 '.repeat(1000)]) {
      for (const speaker of peers) {
        assert.equal((await speaker.ask({ event: 'say', room: ROOM, message })).status, 'OK')
        for (const listener of peers) if (listener !== speaker) assert.equal((await listener.hear()).message, message)
      }
    }
    for (const peer of peers) assert.deepEqual(await peer.close(), [1000, ''])
    await server.stop()
  })

  it('is not filled by a small message that inflates to a long one', async (test) => {
    const server = await startServer({ 'servers.websocket.compression': true })
    test.after(() => server.kill())
    const peer = await Peer.open(server, { perMessageDeflate: { threshold: 0 } })
    peer.socket.send(JSON.stringify({ event: 'x'.repeat(10_000_000) }))
    assert.equal((await within('the close', peer.closed))[0], 1009)
    await server.stop()
  })
})
