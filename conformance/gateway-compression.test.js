// Messages to a shard in every form, inflated by libraries that are not the server's.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import zlib from 'node:zlib'

import { Decompress } from 'fzstd'

import { PONG, Shard, publish, registration, resumption, startGateway, zipped } from './support/gateway.js'

const END_OF_MESSAGE = Buffer.from([0, 0, 0xff, 0xff])

/** One window for the connection; each message ends with a flush. */
function zlibStream () {
  let compressed = Buffer.alloc(0)
  let inflatedBytes = 0
  return (data, isBinary) => {
    assert.equal(isBinary, true)
    assert.deepEqual(data.subarray(-4), END_OF_MESSAGE)
    compressed = Buffer.concat([compressed, data])
    // Node inflates at once or in pieces, but not pieces at once: so all of it again, of which the end is new.
    const inflated = zlib.inflateSync(compressed, { finishFlush: zlib.constants.Z_SYNC_FLUSH })
    const text = String(inflated.subarray(inflatedBytes))
    inflatedBytes = inflated.length
    return [text]
  }
}

function zstdStream () {
  let pieces = []
  const inflate = new Decompress((piece) => pieces.push(Buffer.from(piece)))
  return (data, isBinary) => {
    assert.equal(isBinary, true)
    inflate.push(data)
    const text = String(Buffer.concat(pieces))
    pieces = []
    return [text]
  }
}

/** What is sent is long, and alike enough that a window pays. */
const EVENTS = Array.from({ length: 40 }, (_, n) => ({ n, text: `message ${n} в потоке ✓ `.repeat(n) }))

describe('messages to a shard', () => {
  let server

  before(async () => { server = await startGateway() })

  after(() => server?.stop())

  for (const [name, reader] of Object.entries({ none: undefined, zlib: () => zipped, 'zlib-stream': zlibStream, 'zstd-stream': zstdStream })) {
    it(`come as asked for with compress=${name}, replayed ones too`, async () => {
      const connect = () => Shard.connect(server, { path: `/gateway?compress=${name}`, ...(reader && { read: reader() }) })
      const shard = await connect()
      const { session_id: session } = await shard.register()
      assert.deepEqual(await shard.ask({ type: 3 }), PONG)
      for (const event of EVENTS) await publish(server, 'TEXT', event)
      for (const [index, event] of EVENTS.entries()) {
        assert.deepEqual(await shard.hear(), { type: 8, service: 'gateway', event: 'TEXT', data: event, s: index + 1 })
      }
      await shard.silent()
      await shard.cut()
      const back = await connect()
      assert.equal((await back.ask(resumption(session, { seq: 10 }))).event, 'GATEWAY_RESUMED')
      for (const event of EVENTS.slice(10)) assert.deepEqual((await back.hear()).data, event)
      await back.silent()
      if (name.endsWith('stream')) {
        const bytes = shard.frames.reduce((sum, { data }) => sum + data.length, 0)
        const texts = EVENTS.reduce((sum, event) => sum + JSON.stringify(event).length, 0)
        assert.ok(bytes < texts / 4, `${bytes} bytes for ${texts}`)
      }
      await back.cut()
    })
  }

  it('are compressed from the answer on for whoever asks for it when registering or resuming', async () => {
    const shard = await Shard.connect(server, { read: zipped })
    const { session_id: session } = await shard.register({ encode: true })
    assert.deepEqual(await shard.ask({ type: 3 }), PONG)
    await shard.cut()
    const back = await Shard.connect(server, { read: zipped })
    assert.equal((await back.ask(resumption(session, { encode: true }))).event, 'GATEWAY_RESUMED')
    await back.cut()
    const plain = await Shard.connect(server)
    assert.equal((await plain.ask(registration({ encode: false }))).event, 'GATEWAY_READY')
    await plain.cut()
  })

  it('are plain in header mode for whoever asks for that', async () => {
    const shard = await Shard.connect(server, { path: '/gateway?compress=none', headers: { Identification: '822865770504519700', Secret: 'correct-horse' } })
    assert.equal((await shard.hear()).event, 'GATEWAY_HELLO')
    await shard.cut()
  })
})
