// The older client's way: credentials in headers, gzip in, zlib out, a greeting first; and what its own server left unanswered.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import zlib from 'node:zlib'

import { ID, INVALID, KEY, OPEN_ID, OPEN_KEY, PONG, SECRET, Shard, complaint, publish, registration, resumption, startGateway, zipped } from './support/gateway.js'

/** A shard that speaks as that client does. */
class OldShard extends Shard {
  static async connect (server, shard, total, more = {}) {
    const headers = {
      Identification: ID,
      Secret: SECRET,
      'Public-Key': KEY,
      'Shard-In': String(shard),
      'Shard-Total': String(total),
      ...more
    }
    for (const [name, value] of Object.entries(headers)) if (value === null) delete headers[name]
    const connected = await Shard.connect(server, { headers, read: zipped })
    connected.say = (message) => connected.socket.send(zlib.gzipSync(JSON.stringify(message)))
    return connected
  }
}

function hello (starting) {
  return {
    type: 1,
    service: 'gateway',
    event: 'GATEWAY_HELLO',
    possible_error: false,
    message: '',
    rate_limit: true,
    data: { starting_shards: starting, heartbeat_interval: 30000 }
  }
}

const members = (shard) => ({
  development: false,
  disconnected: false,
  receibe_ping: 0,
  received: 0,
  send_ping: 0,
  sending: 0,
  shard_id: shard
})

/** The shards in an answer, without the hashes, which must be what hashes are. */
function shardsOf (info) {
  const [[[shards]]] = info.data
  return shards.map(({ shard_hash: hash, ...rest }) => {
    assert.match(hash, /^[A-Za-z0-9]{35}$/)
    return rest
  })
}

describe('a client in header mode', () => {
  let server

  before(async () => { server = await startGateway() })

  after(() => server?.stop())

  it('brings two shards up as transcript 1 has it', async () => {
    const first = await OldShard.connect(server, 0, 2)
    assert.deepEqual(await first.hear(), hello(true))
    first.say({ type: 1, d: { public_key: KEY, shard_id: 0, flags: 0 } })
    first.say({ type: 3, d: { public_key: KEY, shard_id: 0 } })
    const ready = await first.hear()
    assert.equal(ready.event, 'GATEWAY_READY')
    assert.deepEqual(ready.data.shards_config, [[[[0, 2]]]])
    const info = await first.hear()
    assert.deepEqual([info.type, info.service, info.event], [1, 'gateway', 'GATEWAY_SHARD_INFO'])
    assert.equal(info.session_id, ready.data.session_id, 'nothing has changed')
    assert.equal(shardsOf(info).length, 1)

    const second = await OldShard.connect(server, 1, 2)
    assert.deepEqual(await second.hear(), hello(false))
    const both = await second.ask({ type: 3, d: { public_key: KEY, shard_id: 1 } })
    assert.equal(both.event, 'GATEWAY_SHARD_INFO')
    assert.deepEqual(shardsOf(both)[1], members(1))
    assert.equal(shardsOf(both)[0].shard_id, 0)
    assert.match(both.session_id, /^[A-Za-z0-9_=-]{64,128}$/)

    // What it does for the rest of its life.
    for (const shard of [first, second]) {
      shard.say({ type: 89, message: '' })
      await shard.silent()
    }
    for (const [shard, number] of [[first, 0], [second, 1]]) {
      assert.equal((await publish(server, 'NEWS', { number }, { shard_id: number })).status, 202)
      assert.deepEqual(await shard.hear(), { type: 8, service: 'gateway', event: 'NEWS', data: { number }, s: 1 })
    }

    // What it could do, and never does.
    await second.cut()
    const back = await OldShard.connect(server, 1, 2)
    await back.hear()
    back.say({ type: 5, d: { public_key: KEY, session_id: both.session_id, shard_in: 1, flags: 0, seq: 0 } })
    assert.equal((await back.hear()).event, 'GATEWAY_RESUMED')
    assert.equal((await back.hear()).s, 1)
    const { event, data } = await back.hear()
    assert.deepEqual([event, data], ['GATEWAY_REPLAYED', { from: 1, to: 1, count: 1 }])
    first.socket.close(4100)
    back.socket.close(4100)
    await first.closed
    await back.closed
  })

  it('has every question of transcript 2 answered', async () => {
    for (const [what, frame, expected] of [
      ['ping 2', { type: 2 }, complaint(4003, 'not_registered', 2)],
      ['ping 3', { type: 3 }, complaint(4003, 'not_registered', 3)],
      ['keep-alive', { type: 89 }, complaint(4003, 'not_registered', 89)],
      ['unknown session', resumption('x'), INVALID],
      ['no session named', { type: 6, d: {} }, complaint(4002, 'decode_error', 6)],
      ['text as flags', { type: 1, d: { flags: '0' } }, complaint(4002, 'decode_error', 1)],
      ['no d', { type: 1 }, complaint(4002, 'decode_error', 1)],
      ['unknown type', { type: 42 }, complaint(4001, 'unknown_type', 42)]
    ]) {
      const shard = await OldShard.connect(server, 0, 1)
      await shard.hear()
      const { message, ...answer } = await shard.ask(frame)
      assert.deepEqual(answer, expected, what)
      await shard.cut()
    }
  })

  it('may leave in the message what the headers said', async () => {
    for (const d of [{}, { flags: 0 }, { public_key: KEY, shard_in: 0 }]) {
      const shard = await OldShard.connect(server, 0, 1)
      await shard.hear()
      assert.equal((await shard.ask({ type: 1, d })).event, 'GATEWAY_READY', JSON.stringify(d))
      await shard.cut()
    }
  })

  it('may send text, bytes, gzip and zlib', async () => {
    const shard = await OldShard.connect(server, 0, 1)
    await shard.hear()
    shard.socket.send(JSON.stringify(registration()))
    assert.equal((await shard.hear()).event, 'GATEWAY_READY')
    const ping = Buffer.from('{"type":2}')
    const levels = [1, 5, 6, 9].map((level) => zlib.deflateSync(ping, { level }))
    for (const bytes of [ping, zlib.gzipSync(ping), ...levels]) {
      shard.socket.send(bytes)
      assert.deepEqual(await shard.hear(), PONG)
    }
    for (const bytes of [zlib.gzipSync('{bad'), Buffer.from([0x1f, 0x8b, 1, 2, 3]), Buffer.from([0x78, 0x9c, 0xff, 0xff])]) {
      shard.socket.send(bytes)
      await shard.refused(complaint(4002, 'decode_error'))
    }
    await shard.cut()
  })

  for (const [what, more] of Object.entries({
    'a wrong secret': { Secret: 'nope' },
    'a wrong key': { 'Public-Key': 'nope' },
    'any two words as key': { Secret: 'nope', 'Public-Key': 'a b' },
    'an unknown id': { Identification: '9' },
    'the key of another application': { 'Public-Key': OPEN_KEY }
  })) {
    it(`is refused at once with ${what}`, async () => {
      const shard = await OldShard.connect(server, 0, 1, more)
      assert.deepEqual(await shard.hear(), INVALID)
      await shard.closes(4004)
    })
  }

  it('is refused when message and headers disagree', async () => {
    for (const d of [{ public_key: OPEN_KEY }, { secret: 'other' }]) {
      const shard = await OldShard.connect(server, 0, 1)
      await shard.hear()
      assert.deepEqual(await shard.ask({ type: 1, d }), INVALID)
      await shard.closes(4004)
    }
  })

  it('is refused for shards that there are not', async () => {
    for (const [number, total] of [['zz', '1'], ['0', 'many'], ['-1', '1'], [3, 2], [2, 2]]) {
      const shard = await OldShard.connect(server, number, total)
      assert.equal((await shard.hear()).event, 'GATEWAY_HELLO')
      await shard.refused(complaint(4010, 'invalid_shard'))
      await shard.closes(4010)
    }
  })

  it('is served under the older path too, and may name itself and its secret otherwise', async () => {
    const headers = { 'Identification-Id': ID, Authorization: `Bearer ${SECRET}`, 'Public-Key': KEY }
    const shard = await Shard.connect(server, { path: '/ws_interaction', headers, read: zipped })
    assert.deepEqual(await shard.hear(), hello(true))
    assert.equal((await shard.ask({ type: 1, d: {} })).event, 'GATEWAY_READY')
    await shard.cut()
  })

  it('may say the secret with the registration, and not leave it out', async () => {
    const shard = await OldShard.connect(server, 0, 1, { Secret: null })
    assert.deepEqual(await shard.hear(), hello(true))
    const registration = { type: 1, d: { public_key: KEY, secret: SECRET } }
    assert.equal((await shard.ask(registration)).event, 'GATEWAY_READY')
    await shard.cut()
    const silent = await OldShard.connect(server, 0, 1, { Secret: null })
    await silent.hear()
    assert.deepEqual(await silent.ask({ type: 1, d: { public_key: KEY } }), INVALID)
    await silent.closes(4004)
  })

  it('needs no secret where the application has none', async () => {
    const shard = await OldShard.connect(server, 0, 1, { Identification: OPEN_ID, 'Public-Key': OPEN_KEY, Secret: null })
    await shard.hear()
    assert.equal((await shard.ask({ type: 1, d: { public_key: OPEN_KEY } })).data.application_bot.id, OPEN_ID)
    await shard.cut()
  })
})
