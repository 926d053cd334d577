// A client that was written from the document alone: registering, pinging, resuming.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { within } from './support/deadline.js'
import { ID, INVALID, KEY, PONG, SECRET, Shard, complaint, publish, registration, resumption, startGateway } from './support/gateway.js'

/** The data of READY and RESUMED for the only shard of a fleet. */
function only (data, figures = {}) {
  return {
    application_bot: { flags: 1, id: ID, public_key: '[REDACTED]' },
    session_id: data.session_id,
    shards_config: [[[[0, 1]]]],
    shards_stats: [[[[[[[{
      development: false,
      disconnected: false,
      receibe_ping: 0,
      received: 0,
      send_ping: 0,
      sending: 0,
      shard_hash: data.shards_stats[0][0][0][0][0][0][0].shard_hash,
      shard_id: 0,
      ...figures
    }]]]]]]]
  }
}

const hashOf = (data) => data.shards_stats[0][0][0][0][0][0][0].shard_hash

describe('a client written from the document', () => {
  let server

  before(async () => { server = await startGateway() })

  after(() => server?.stop())

  it('is told nothing before it says something', async () => {
    const shard = await Shard.connect(server)
    shard.say({ type: 3 })
    await shard.refused(complaint(4003, 'not_registered', 3))
    await shard.cut()
  })

  it('registers and is answered to the letter', async () => {
    const shard = await Shard.connect(server)
    const ready = await shard.ask(registration())
    assert.deepEqual(Object.keys(ready).sort(), ['data', 'event', 'service', 'type'])
    assert.deepEqual([ready.type, ready.service, ready.event], [1, 'gateway', 'GATEWAY_READY'])
    assert.deepEqual(ready.data, only(ready.data))
    assert.match(ready.data.session_id, /^[A-Za-z0-9_=-]{64,128}$/)
    assert.match(hashOf(ready.data), /^[A-Za-z0-9]{35}$/)
    assert.ok(!String(shard.frames[0].data).includes(KEY), 'the key is in no message')
    await shard.cut()
  })

  it('pings and is answered to the letter', async () => {
    const shard = await Shard.connect(server)
    await shard.register()
    for (const ping of [{ type: 3 }, { type: 3, d: {} }, { type: 3, d: null }, { type: 2 }]) {
      assert.deepEqual(await shard.ask(ping), PONG)
    }
    await shard.cut()
  })

  it('gets what it missed, once and in order, as transcript 3 has it', async () => {
    const first = await Shard.connect(server)
    const { session_id: session, shards_stats: stats } = await first.register()
    const hash = hashOf({ shards_stats: stats })
    assert.deepEqual(await first.ask({ type: 3 }), PONG)
    const event = (n) => ({ type: 8, service: 'gateway', event: 'ORDER_CREATED', data: { n }, s: n })
    for (const n of [1, 2]) {
      const { status, body } = await publish(server, 'ORDER_CREATED', { n })
      assert.deepEqual([status, body], [202, { accepted: true, deliveries: [{ shard_id: 0, s: n }] }])
      assert.deepEqual(await first.hear(), event(n))
    }
    await first.cut()
    for (const n of [3, 4, 5]) assert.equal((await publish(server, 'ORDER_CREATED', { n })).status, 202)

    const second = await Shard.connect(server)
    const resumed = await second.ask(resumption(session, { seq: 2 }))
    assert.deepEqual([resumed.type, resumed.service, resumed.event], [1, 'gateway', 'GATEWAY_RESUMED'])
    assert.deepEqual(resumed.data.session_id, session)
    assert.equal(hashOf(resumed.data), hash)
    assert.deepEqual(resumed.data, only(resumed.data, { receibe_ping: 1, received: 1, send_ping: 1, sending: 3 }))
    for (const n of [3, 4, 5]) assert.deepEqual(await second.hear(), event(n))
    await second.silent()

    const third = await Shard.connect(server)
    third.say({ type: 3 })
    await third.refused(complaint(4003, 'not_registered', 3))
    assert.deepEqual(await third.ask(resumption('a'.repeat(86))), INVALID)
    await Promise.all([second.cut(), third.cut()])
  })

  it('resumes without a number what its socket had not proven to have', async () => {
    const first = await Shard.connect(server)
    const { session_id: session } = await first.register()
    await first.cut()
    for (const n of [1, 2, 3]) await publish(server, 'MISSED', n)
    const second = await Shard.connect(server)
    assert.equal((await second.ask(resumption(session))).event, 'GATEWAY_RESUMED')
    for (const s of [1, 2, 3]) assert.equal((await second.hear()).s, s)
    await second.silent()
    await second.cut()
  })

  it('resumes after an ordinary close, and not after it gave the session up', async () => {
    const first = await Shard.connect(server)
    const { session_id: session } = await first.register()
    for (const code of [1000, 1001, 4321]) {
      const shard = await Shard.connect(server)
      assert.equal((await shard.ask(resumption(session, { seq: 0 }))).event, 'GATEWAY_RESUMED', `before ${code}`)
      shard.socket.close(code)
      await within('the close', shard.closed)
    }
    const last = await Shard.connect(server)
    assert.equal((await last.ask(resumption(session))).event, 'GATEWAY_RESUMED')
    last.socket.close(4100)
    assert.equal(await within('the close', last.closed), 4100)
    const late = await Shard.connect(server)
    assert.deepEqual(await late.ask(resumption(session)), INVALID)
    assert.equal((await late.ask(registration())).event, 'GATEWAY_READY', 'on the same connection')
    await late.cut()
  })

  it('is refused alike for whatever reason a resume cannot succeed', async () => {
    const first = await Shard.connect(server)
    const { session_id: session } = await first.register()
    await first.cut()
    const texts = new Set()
    for (const [what, request] of Object.entries({
      unknown: resumption('b'.repeat(86)),
      short: resumption('x'),
      shard: resumption(session, { shard_in: 1 }),
      ahead: resumption(session, { seq: 1 })
    })) {
      const shard = await Shard.connect(server)
      assert.deepEqual(await shard.ask(request), INVALID, what)
      texts.add(String(shard.frames[0].data))
      await shard.cut()
    }
    assert.equal(texts.size, 1, 'the very same bytes')
    const shard = await Shard.connect(server)
    assert.equal((await shard.ask({ ...resumption(session), type: 6 })).event, 'GATEWAY_RESUMED', 'type 6 is an alias')
    await shard.cut()
  })

  it('is told that its credentials are wrong before anything is said about a session', async () => {
    const first = await Shard.connect(server)
    const { session_id: session } = await first.register()
    for (const request of [
      registration({ public_key: 'nope' }),
      registration({ secret: 'nope' }),
      registration({ secret: undefined }),
      resumption(session, { secret: `${SECRET} ` }),
      resumption(session, { public_key: 'a b' }),
      resumption('unknown', { secret: undefined })
    ]) {
      const shard = await Shard.connect(server)
      assert.deepEqual(await shard.ask(request), INVALID)
      await shard.closes(4004)
    }
    await first.silent()
    await first.cut()
  })

  it('has its flags answered by the rule of the origin', async () => {
    for (const [flags, answered] of [[0, 1], [1, 3], [2, 5], [3, 7], [4, 1], [5, 3], [7, 7], [8, 1], [15, 7]]) {
      const shard = await Shard.connect(server)
      const data = await shard.register({ flags })
      assert.equal(data.application_bot.flags, answered, `flags ${flags}`)
      assert.equal(data.shards_stats[0][0][0][0][0][0][0].development, (flags & 1) === 1)
      shard.socket.close(4100)
      await within('the close', shard.closed)
    }
  })

  it('is listed with its fleet, by shard', async () => {
    const shards = []
    for (const number of [0, 1]) {
      const shard = await Shard.connect(server)
      shards.push(shard)
      const data = await shard.register({ shard_in: number, shard_total: 2 })
      const stats = data.shards_stats[0][0][0][0][0][0]
      assert.deepEqual(stats.map(({ shard_id: id }) => id), number === 0 ? [0] : [0, 1])
      if (number === 1) assert.deepEqual(data.shards_config, [[[[0, 2], [1, 2]]]])
    }
    // A master that counts anew sends the others away.
    const master = await Shard.connect(server)
    await master.register({ shard_total: 1 })
    const [old, other] = shards
    await old.refused(complaint(4020, 'session_replaced'))
    await old.closes(4020)
    await other.refused(complaint(4022, 'resharded'))
    await other.closes(4022)
    master.socket.close(4100)
    await within('the close', master.closed)
  })
})
