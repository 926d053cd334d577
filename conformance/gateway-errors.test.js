// Every row of the table of errors and close codes, over the wire.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import zlib from 'node:zlib'

import { within } from './support/deadline.js'
import {
  ID, INVALID, KEY, OPEN_KEY, PONG, SECRET, Shard, complaint, post, publish, registration, resumption, startGateway
} from './support/gateway.js'
import { ADMIN, ask } from './support/admin.js'

/** Until the server has noticed that nobody carries the first shard any more. */
async function detached (server) {
  const headers = { Identification: ID, Secret: SECRET }
  for (;;) {
    const { shards } = await (await fetch(`${server.web.origin}/gateway/shards`, { headers })).json()
    if (shards[0].disconnected) return
  }
}

describe('a client that does something wrong', () => {
  let server

  before(async () => { server = await startGateway() })

  after(() => server?.stop())

  it('hears of unknown types and of what is not understood, and goes on', async () => {
    const shard = await Shard.connect(server)
    await shard.register()
    for (const [text, code, reason, type] of [
      ['{"type":42}', 4001, 'unknown_type', 42],
      ['{"type":0,"d":{}}', 4001, 'unknown_type', 0],
      ['', 4002, 'decode_error', null],
      ['nonsense', 4002, 'decode_error', null],
      ['[{"type":3}]', 4002, 'decode_error', null],
      ['{"d":{}}', 4002, 'decode_error', null],
      ['{"type":"3"}', 4002, 'decode_error', null],
      ['{"type":3,"d":[]}', 4002, 'decode_error', 3]
    ]) {
      shard.socket.send(text)
      await shard.refused(complaint(code, reason, type))
    }
    assert.deepEqual(await shard.ask({ type: 3 }), PONG)
    await shard.cut()
  })

  it('hears what is missing in a message, and goes on', async () => {
    const wrong = [
      { type: 1 },
      { type: 1, d: 7 },
      { type: 1, d: { public_key: 7 } },
      { type: 1, d: { public_key: KEY, secret: SECRET, shard_in: '0' } },
      { type: 1, d: { public_key: KEY, secret: SECRET, shard_in: -1 } },
      { type: 1, d: { public_key: KEY, secret: SECRET, flags: 0.5 } },
      { type: 5 },
      { type: 5, d: { public_key: KEY, secret: SECRET, shard_in: 0, flags: 0 } },
      resumption('x', { seq: 'a' })
    ]
    const shard = await Shard.connect(server)
    for (const message of wrong) {
      shard.say(message)
      await shard.refused(complaint(4002, 'decode_error', message.type))
    }
    await shard.register()
    await shard.cut()
  })

  it('is told to register first', async () => {
    const shard = await Shard.connect(server)
    for (const message of [
      { type: 2 },
      { type: 3 },
      { type: 4, id: '1', data: {} },
      { type: 9, d: { _id: 'bycAiK7YabTfCGqBQ', reply: {} } },
      { type: 10, d: { op: 'join', room: 'defaultRoom' } },
      { type: 89 }
    ]) {
      shard.say(message)
      await shard.refused(complaint(4003, 'not_registered', message.type))
    }
    await shard.cut()
  })

  it('keeps its session when it resumes once more', async () => {
    const shard = await Shard.connect(server)
    const { session_id: session } = await shard.register()
    shard.say(resumption(session))
    await shard.refused(complaint(4005, 'already_registered', 5))
    await shard.silent()
    const again = await shard.ask(registration())
    assert.equal(again.event, 'GATEWAY_READY', 'registering again is allowed')
    assert.notEqual(again.data.session_id, session)
    await shard.cut()
    const late = await Shard.connect(server)
    assert.deepEqual(await late.ask(resumption(session)), INVALID, 'the old session has ended by that')
    await late.cut()
  })

  it('cannot acknowledge what was not sent', async () => {
    const shard = await Shard.connect(server)
    await shard.register()
    assert.equal((await publish(server, 'ONE', 1)).status, 202)
    assert.equal((await shard.hear()).s, 1)
    assert.deepEqual(await shard.ask({ type: 3, d: { seq: 1 } }), PONG)
    shard.say({ type: 3, d: { seq: 2 } })
    await shard.refused(complaint(4007, 'invalid_seq', 3))
    await shard.silent()
    await shard.cut()
  })

  it('cannot resume from before what it acknowledged', async () => {
    const shard = await Shard.connect(server)
    const { session_id: session } = await shard.register()
    for (const n of [1, 2]) await publish(server, 'N', n)
    assert.equal((await shard.hear()).s, 1)
    assert.equal((await shard.hear()).s, 2)
    assert.deepEqual(await shard.ask({ type: 3, d: { seq: 2 } }), PONG)
    await shard.cut()
    const late = await Shard.connect(server)
    assert.deepEqual(await late.ask(resumption(session, { seq: 1 })), INVALID)
    assert.equal((await late.ask(resumption(session, { seq: 2 }))).event, 'GATEWAY_RESUMED')
    await late.silent()
    await late.cut()
  })

  it('is closed for control messages that are too large', async () => {
    const long = JSON.stringify({ type: 3, d: { filler: 'x'.repeat(5000) } })
    for (const frame of [long, zlib.gzipSync(long), zlib.deflateSync(long)]) {
      const shard = await Shard.connect(server)
      await shard.register()
      shard.socket.send(frame)
      await shard.refused(complaint(4002, 'payload_too_large', 3))
      await shard.closes(4002)
    }
  })

  it('is closed for messages above the limit, however small they were sent', async () => {
    const bomb = Buffer.alloc(10_000_000, ' ')
    for (const frame of [' '.repeat(70_000), zlib.gzipSync(bomb), zlib.deflateSync(bomb)]) {
      const shard = await Shard.connect(server)
      shard.socket.send(frame)
      await shard.closes(1009)
    }
  })

  it('is closed for shards that there are not', async () => {
    for (const more of [{ shard_in: 3, shard_total: 2 }, { shard_in: 2, shard_total: 2 }, { shard_in: 1024 }]) {
      const shard = await Shard.connect(server)
      shard.say(registration(more))
      await shard.refused(complaint(4010, 'invalid_shard', 1))
      await shard.closes(4010)
    }
  })

  it('is closed for versions and compressions that there are not', async () => {
    for (const query of ['v=2', 'compress=brotli']) {
      const shard = await Shard.connect(server, { path: `/gateway?${query}` })
      await shard.refused(complaint(4012, 'unsupported'))
      await shard.closes(4012)
    }
    const shard = await Shard.connect(server, { path: '/gateway?v=1&hello=1' })
    assert.equal((await shard.hear()).event, 'GATEWAY_HELLO')
    await shard.cut()
  })

  it('is closed when another instance takes over', async () => {
    const owner = await Shard.connect(server)
    const { session_id: session } = await owner.register()
    const thief = await Shard.connect(server)
    assert.equal((await thief.ask(resumption(session))).event, 'GATEWAY_RESUMED')
    await owner.refused(complaint(4020, 'session_replaced'))
    await owner.closes(4020)
    const next = await Shard.connect(server)
    await next.register()
    await thief.refused(complaint(4020, 'session_replaced'))
    await thief.closes(4020)
    await next.cut()
  })

  it('must wait for shard 0, and has no development shards where they are not allowed', async () => {
    const shard = await Shard.connect(server)
    shard.say({ type: 1, d: { public_key: OPEN_KEY, shard_in: 1, flags: 0 } })
    const { message, ...refusal } = await shard.hear()
    assert.ok(refusal.data.retry_after_ms > 0, JSON.stringify(refusal))
    assert.deepEqual(refusal, complaint(4023, 'shard_master_required', 1, { retry_after_ms: refusal.data.retry_after_ms }))
    shard.say({ type: 1, d: { public_key: OPEN_KEY, shard_in: 0, flags: 1 } })
    await shard.refused(complaint(4023, 'development_not_allowed', 1))
    assert.equal((await shard.ask({ type: 1, d: { public_key: OPEN_KEY } })).event, 'GATEWAY_READY')
    await shard.cut()
  })

  it('is closed after ten refusals within a minute', async () => {
    const shard = await Shard.connect(server)
    for (let count = 0; count < 10; count++) {
      shard.say({ type: 42 })
      await shard.refused(complaint(4001, 'unknown_type', 42))
    }
    shard.say({ type: 3 })
    await shard.refused(complaint(4003, 'not_registered', 3))
    await shard.closes(4003)
    const guesser = await Shard.connect(server)
    for (let count = 0; count < 11; count++) assert.deepEqual(await guesser.ask(resumption('x')), INVALID)
    await guesser.closes(4003)
  })

  it('is closed for text that is not UTF-8', async () => {
    const shard = await Shard.connect(server)
    shard.socket.send(Buffer.from([0x22, 0xff, 0x22]), { binary: false })
    await shard.closes(1007)
  })

  it('reaches the gateway under no other path', async () => {
    for (const path of ['/gateway/x', '/gatewa', '/GATEWAY']) await assert.rejects(Shard.connect(server, { path }), /404/, path)
    const answer = await fetch(`${server.web.origin}/gateway`)
    assert.deepEqual(await answer.json(), { url: `ws://${server.web.host}:${server.web.port}/gateway` })
  })

  it('publishes nothing that is malformed, unauthorised or for nobody', async () => {
    const bad = async (body, headers) => (await post(server, body, headers)).status
    for (const body of [{}, { event: 'lower' }, { event: 'GATEWAY_X', data: 1 }, { event: 'A', data: 1, shard_id: 'x' }]) {
      assert.equal(await bad(body), 400, JSON.stringify(body))
    }
    for (const headers of [{}, { identification: ID }, { identification: ID, secret: 'nope' }, { identification: '9', secret: SECRET }]) {
      assert.equal(await bad({ event: 'A', data: 1 }, headers), 401, JSON.stringify(headers))
    }
    const { status, body } = await publish(server, 'A', 1, { shard_id: 77 })
    assert.deepEqual([status, body], [404, { accepted: false, error: 'no_session' }])
  })
})

describe('a server with narrow limits', () => {
  let server

  before(async () => {
    server = await startGateway({
      'servers.gateway.rate_messages': 5,
      'servers.gateway.register_timeout': '300ms',
      'servers.gateway.heartbeat_interval': '200ms',
      'servers.gateway.start_concurrency': 2,
      'servers.gateway.start_total': 4,
      ...ADMIN
    })
  })

  after(() => server?.stop())

  it('closes who does not register', async () => {
    const shard = await Shard.connect(server)
    await shard.refused(complaint(4003, 'register_timeout'))
    await shard.closes(4003)
  })

  it('lets so many begin at once, so many in a day, and every session resume', async () => {
    const shard = await Shard.connect(server)
    const { session_id: session } = await shard.register()
    assert.equal((await shard.ask(registration())).event, 'GATEWAY_READY')
    const late = await Shard.connect(server)
    const { message, ...refusal } = await late.ask(registration())
    const wait = refusal.data.retry_after_ms
    assert.ok(wait > 0 && wait <= 5000, JSON.stringify(refusal))
    assert.deepEqual(refusal, complaint(4024, 'start_concurrency', 1, { retry_after_ms: wait }))
    await late.cut()
    await shard.cut()
    const gone = await Shard.connect(server)
    assert.deepEqual(await gone.ask(resumption(session)), INVALID, 'registering again ended it')
    await gone.cut()
  })

  it('closes who says too much', async () => {
    const shard = await Shard.connect(server)
    for (let count = 0; count < 6; count++) shard.say({ type: 3 })
    for (let count = 0; count < 5; count++) await shard.refused(complaint(4003, 'not_registered', 3))
    // It is counted before it is looked at.
    await shard.refused(complaint(4008, 'rate_limited'))
    await shard.closes(4008)
  })
})

/** A server of one test. */
async function serve (test, settings) {
  const server = await startGateway(settings)
  test.after(() => server.kill())
  return server
}

describe('a server', () => {
  it('closes who does not answer its pings, and keeps the session', async (test) => {
    const server = await serve(test, { 'servers.gateway.heartbeat_interval': '200ms' })
    const shard = await Shard.connect(server)
    const { session_id: session } = await shard.register()
    shard.socket._receiver.removeAllListeners('ping')
    await shard.closes(4021)
    const back = await Shard.connect(server)
    assert.equal((await back.ask(resumption(session))).event, 'GATEWAY_RESUMED')
    await back.cut()
    await server.stop()
  })

  it('ends a session for its operator', async (test) => {
    const server = await serve(test, ADMIN)
    const shard = await Shard.connect(server)
    const { session_id: session, shards_stats: stats } = await shard.register()
    const [{ shard_hash: hash }] = stats[0][0][0][0][0][0]
    const { status } = await ask(server, 'DELETE', `/v1/gateway/sessions/${hash}`)
    assert.equal(status, 200)
    await shard.refused(complaint(4027, 'session_ended'))
    await shard.closes(4027)
    const late = await Shard.connect(server)
    assert.deepEqual(await late.ask(resumption(session)), INVALID)
    await late.cut()
    await server.stop()
  })

  it('uses up the registrations of a day', async (test) => {
    const server = await serve(test, { 'servers.gateway.start_total': 1 })
    const shard = await Shard.connect(server)
    await shard.register()
    const late = await Shard.connect(server)
    const { message, ...refusal } = await late.ask(registration())
    assert.ok(refusal.data.retry_after_ms > 0)
    assert.deepEqual(refusal, complaint(4025, 'start_limit', 1, { retry_after_ms: refusal.data.retry_after_ms }))
    await late.closes(4025)
    await shard.silent()
    await shard.cut()
    await server.stop()
  })

  it('leaves the owner alone where newcomers are to be refused', async (test) => {
    const server = await serve(test, { 'servers.gateway.duplicate_shard': 'reject' })
    const owner = await Shard.connect(server)
    await owner.register()
    const late = await Shard.connect(server)
    late.say(registration())
    await late.refused(complaint(4020, 'session_replaced', 1))
    await owner.silent()
    await owner.cut()
    await within('the owner is detached', detached(server))
    assert.equal((await late.ask(registration())).event, 'GATEWAY_READY')
    await late.cut()
    await server.stop()
  })

  it('tells its shards that it stops, and closes them', async (test) => {
    const server = await serve(test)
    const shard = await Shard.connect(server)
    await shard.register()
    const silent = await Shard.connect(server)
    server.terminate()
    const { data, ...rest } = await shard.hear()
    assert.deepEqual(rest, { type: 7, service: 'gateway', event: 'GATEWAY_RECONNECT' })
    assert.ok(data.reconnect_after_ms >= 0)
    await shard.closes(1012)
    await silent.closes(1012)
    await server.stop()
  })

  it('forgets what wrapped around, and says so', async (test) => {
    const server = await serve(test, { 'servers.gateway.replay_max_events': 3 })
    const first = await Shard.connect(server)
    const { session_id: session } = await first.register()
    await first.cut()
    for (const n of [1, 2, 3]) await publish(server, 'N', n)
    const second = await Shard.connect(server)
    assert.equal((await second.ask(resumption(session, { seq: 0 }))).event, 'GATEWAY_RESUMED')
    for (const s of [1, 2, 3]) assert.equal((await second.hear()).s, s)
    await second.cut()
    await publish(server, 'N', 4)
    const third = await Shard.connect(server)
    assert.deepEqual(await third.ask(resumption(session, { seq: 0 })), INVALID)
    assert.equal((await third.ask(resumption(session, { seq: 1 }))).event, 'GATEWAY_RESUMED')
    for (const s of [2, 3, 4]) assert.equal((await third.hear()).s, s)
    await third.silent()
    await third.cut()
    await server.stop()
  })
})
