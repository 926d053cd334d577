// Who pings whom while nobody says anything: the server every second here, the SDK every ten by itself.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { command } from './support/admin.js'
import { CLIENTS } from './support/ddp-bots.js'
import { PASSWORD, startDdpServer } from './support/ddp-server.js'
import { emitted } from './support/deadline.js'
import { Wire } from './support/wire.js'

const names = CLIENTS.map((client, number) => `bot${number}`)

describe('clients that say nothing', () => {
  let server
  let wire
  const bots = []

  before(async () => {
    server = await startDdpServer(names, { 'servers.ddp.heartbeat_interval': '1s' })
    wire = await Wire.to(server.web)
    for (const [number, { connect }] of CLIENTS.entries()) {
      const bot = await connect(wire)
      bots.push(bot)
      await bot.login(names[number], PASSWORD)
      await bot.takeCommands()
    }
  })

  after(async () => {
    for (const bot of bots) await bot.close()
    wire?.close()
    await server?.stop()
  })

  it('are pinged, ping by themselves, and keep their connections', async () => {
    const [sdk] = bots
    const answered = () => {
      const ping = sdk.sent.find(({ msg }) => msg === 'ping')
      return ping && sdk.received.some(({ msg, id }) => msg === 'pong' && id === ping.id)
    }
    while (!answered()) await emitted(sdk, 'frame')
    assert.ok(sdk.received.filter(({ msg }) => msg === 'ping').length > 3, 'the server pinged')
    for (const [number, bot] of bots.entries()) {
      const outcome = command(server, names[number], { key: 'heartbeat' })
      const { _id } = await bot.commands.next()
      assert.equal(await bot.call('replyClientCommand', _id, { success: true }), true)
      assert.equal((await outcome).status, 200)
    }
    assert.equal(wire.connections, CLIENTS.length)
  })
})
