// Other people's clients at two nodes of one cluster: whatever is possible within one node is possible between two.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { ADMIN, ask, command } from './support/admin.js'
import { CLIENTS, open } from './support/clients.js'
import { CLIENTS as BOTS } from './support/ddp-bots.js'
import { PASSWORD, ROOM, startDdpServer } from './support/ddp-server.js'
import { Shard, publish, resumption, startGateway } from './support/gateway.js'
import { RawClient } from './support/raw.js'
import { node, startRedis } from './support/redis.js'
import { startServer } from './support/server.js'

describe('a room of two nodes', () => {
  const members = []
  let redis, servers, raw

  before(async () => {
    redis = await startRedis()
    servers = [await startServer({ ...ADMIN, ...node(redis, 'a') }), await startServer({ ...ADMIN, ...node(redis, 'b') })]
    for (const kind of CLIENTS) {
      for (const server of servers) members.push(await open(kind, server))
    }
    for (const member of members) assert.equal((await member.call('roomAdd', 'defaultRoom')).error, null)
    raw = await RawClient.connect(servers[1])
    assert.equal((await raw.ask('roomAdd defaultRoom')).status, 'OK')
  })

  after(async () => {
    for (const member of members) await member.close()
    await raw?.quit()
    for (const server of servers ?? []) await server.stop()
    await redis?.stop()
    assert.deepEqual(members.flatMap(({ complaints }) => complaints), [])
  })

  it('is seen alike from both', async () => {
    const ids = [...members.map((member) => member.client.id), await raw.id()].sort()
    for (const member of members) {
      const { data } = (await member.call('roomView', 'defaultRoom')).data
      assert.equal(data.membersCount, ids.length)
      assert.deepEqual(Object.keys(data.members).sort(), ids)
    }
  })

  it('carries what anybody says to everybody else, in one order', async () => {
    for (const [number, speaker] of members.entries()) {
      const text = `words of ${number}`
      assert.equal((await speaker.call('say', 'defaultRoom', text)).error, null)
      assert.deepEqual([(await raw.hear()).message], [text])
      for (const listener of members) {
        if (listener === speaker) continue
        const { message, from } = await listener.hear()
        assert.deepEqual([message, from], [text, speaker.client.id], listener.kind.name)
      }
    }
  })

  it('is entered and left through the other node', async () => {
    const id = await raw.id()
    const path = `/v1/rooms/secureRoom/members/${id}`
    assert.equal((await ask(servers[0], 'POST', '/v1/rooms', { room: 'secureRoom' })).status, 201)
    assert.equal((await ask(servers[0], 'PUT', path)).status, 201)
    assert.deepEqual(Object.keys((await raw.ask('roomView secureRoom')).data.members), [id])
    assert.equal((await ask(servers[0], 'DELETE', path)).status, 200)
    assert.equal((await raw.ask('roomView secureRoom')).status, 'not member of room secureRoom')
  })
})

describe('bots at two nodes', () => {
  const names = BOTS.map((client, number) => `bot${number}`)
  let redis, servers

  before(async () => {
    redis = await startRedis()
    servers = [await startDdpServer(names, node(redis, 'a')), await startDdpServer(names, node(redis, 'b'))]
  })

  after(async () => {
    for (const server of servers ?? []) await server.stop()
    await redis?.stop()
  })

  for (const [number, client] of BOTS.entries()) {
    it(`reach each other with ${client.name}`, async () => {
      const near = await client.connect(servers[0].web)
      const far = await BOTS[0].connect(servers[1].web)
      const other = names[(number + 1) % names.length]
      await near.login(names[number], PASSWORD)
      await far.login(other, PASSWORD)
      for (const bot of [near, far]) {
        await bot.call('joinRoom', ROOM)
        await bot.listen(ROOM)
      }
      await far.call('sendMessage', { rid: ROOM, msg: `to ${client.name}` })
      assert.equal((await near.hear()).msg, `to ${client.name}`)
      await near.takeCommands()
      // The node that is asked is not the one that has the bot.
      const outcome = command(servers[1], names[number], { key: 'heartbeat' })
      const received = await near.commands.next()
      assert.equal(await near.call('replyClientCommand', received._id, { success: true }), true)
      const { status, body } = await outcome
      assert.deepEqual([status, body.outcome, body.reply], [200, 'replied', { success: true }], JSON.stringify(body))
      await near.close()
      await far.close()
    })
  }
})

describe('a shard at two nodes', () => {
  let redis, a, b

  before(async () => {
    redis = await startRedis()
    a = await startGateway({ ...ADMIN, ...node(redis, 'a') })
    b = await startGateway({ ...ADMIN, ...node(redis, 'b') })
  })

  after(async () => {
    a?.kill()
    await b?.stop()
    await redis?.stop()
  })

  it('is sent what is published at the other node, and resumes there when its own is killed', async () => {
    const shard = await Shard.connect(a)
    const { session_id: session } = await shard.register()
    for (const n of [1, 2]) assert.equal((await publish(b, 'COUNT', n)).status, 202)
    for (const n of [1, 2]) {
      const { event, data, s } = await shard.hear()
      assert.deepEqual([event, data, s], ['COUNT', n, n])
    }
    await a.die()
    a = undefined
    assert.equal((await publish(b, 'COUNT', 3)).status, 202)
    const again = await Shard.connect(b)
    again.say(resumption(session, { seq: 2 }))
    assert.equal((await again.hear()).event, 'GATEWAY_RESUMED')
    const { event, data, s } = await again.hear()
    assert.deepEqual([event, data, s], ['COUNT', 3, 3])
    again.socket.close()
  })
})
