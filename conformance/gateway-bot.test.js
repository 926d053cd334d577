// The example bot against a server, while both are killed.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

import { ADMIN, command } from './support/admin.js'
import { within } from './support/deadline.js'
import { ID, KEY, SECRET, Shard, publish, registration, startGateway } from './support/gateway.js'
import { Inbox } from './support/inbox.js'
import { temporaryFolder } from './support/server.js'

const BOT = fileURLToPath(new URL('../examples/gateway-bot/bot.js', import.meta.url))
const MODULES = fileURLToPath(new URL('node_modules', import.meta.url))

/** The bot, and what it says. */
class Bot {
  constructor (folder, server, settings = {}) {
    const env = {
      ...process.env,
      // It finds its package beside itself once it is installed; here it is that of the tests.
      NODE_PATH: MODULES,
      GATEWAY_URL: `ws://${server.web.host}:${server.web.port}/gateway`,
      PUBLIC_KEY: KEY,
      SECRET,
      PACE: '0.01',
      ...settings
    }
    this.lines = new Inbox('a line of the bot')
    this.child = spawn(process.execPath, [BOT], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let partial = ''
    this.complaint = ''
    this.child.stdout.setEncoding('utf8').on('data', (text) => {
      const lines = (partial + text).split('\n')
      partial = lines.pop()
      for (const line of lines) this.lines.put(line)
    })
    this.child.stderr.setEncoding('utf8').on('data', (text) => { this.complaint += text })
    this.ended = new Promise((resolve) => this.child.on('close', resolve))
  }

  /** The next line that begins so, and what follows. Others are passed over, but for events. */
  async said (beginning) {
    for (;;) {
      const line = await this.lines.next()
      if (line.startsWith(beginning)) return line.slice(beginning.length)
      assert.ok(!line.startsWith('event'), `an event before ${beginning}: ${line}`)
    }
  }

  async heard () {
    const [, s, event, data] = /^(\d+) (\w+) (.*)$/.exec(await this.said('event '))
    return { s: Number(s), event, data: JSON.parse(data) }
  }

  async die () {
    this.child.kill('SIGKILL')
    await within('the end of the bot', this.ended)
    assert.equal(this.complaint, '')
  }

  /** Ends as it does on a terminal. */
  async stop () {
    this.child.kill('SIGTERM')
    assert.equal(await within('the end of the bot', this.ended), 0, this.complaint)
  }
}

describe('the example bot', () => {
  let folder, server, bot

  const settings = () => ({ ...ADMIN, 'backend.kind': 'file', 'node.data_dir': join(folder.path, 'data') })

  before(async () => {
    folder = temporaryFolder()
    server = await startGateway(settings())
    bot = new Bot(folder.path, server)
  })

  after(async () => {
    bot?.child.kill('SIGKILL')
    server?.kill()
    folder?.remove()
  })

  /** Publishes these numbers, of which each must be accepted. */
  const tell = async (...numbers) => {
    for (const n of numbers) assert.equal((await publish(server, 'COUNT', n)).status, 202)
  }

  /** The bot must handle these numbers next. */
  const hears = async (...numbers) => {
    for (const n of numbers) assert.deepEqual(await bot.heard(), { s: n, event: 'COUNT', data: n })
  }

  /** The state file is written after an event was handled, which nobody hears. */
  const keeps = (s) => within(`state ${s}`, (async () => {
    while (JSON.parse(readFileSync(join(folder.path, 'shard-0.json'), 'utf8')).s !== s) {
      await new Promise((resolve) => setImmediate(resolve))
    }
  })())

  it('registers and pings', async () => {
    await bot.said('ready')
    assert.match(await bot.said('ping '), /^[\d.]+ ms$/)
  })

  it('handles events', async () => {
    await tell(1, 2)
    await hears(1, 2)
    await keeps(2)
  })

  it('does what commands ask for', async () => {
    const { status, body } = await command(server, ID, { key: 'heartbeat' })
    assert.equal(status, 200, JSON.stringify(body))
    assert.deepEqual(body.reply, { success: true })
    assert.equal(await bot.said('command '), 'heartbeat')
  })

  it('gets what it missed while it was dead', async () => {
    await bot.die()
    await tell(3, 4)
    bot = new Bot(folder.path, server)
    await bot.said('resumed')
    await hears(3, 4)
  })

  it('comes back when the server was killed', async () => {
    await keeps(4)
    await tell(5)
    const port = server.web.port
    await server.die()
    server = await startGateway({ ...settings(), 'servers.web.port': port })
    await tell(6)
    await hears(5, 6)
    await keeps(6)
  })

  it('comes back when both were killed', async () => {
    for (const n of [7, 9, 11]) {
      await tell(n)
      const port = server.web.port
      await bot.die()
      await server.die()
      server = await startGateway({ ...settings(), 'servers.web.port': port })
      await tell(n + 1)
      bot = new Bot(folder.path, server)
      // It may have handled the first before it died, and if it could not write that down, it handles it again.
      const first = await bot.heard()
      if (first.s === n) await hears(n + 1)
      else assert.deepEqual(first, { s: n + 1, event: 'COUNT', data: n + 1 })
      await keeps(n + 1)
    }
  })

  it('leaves on a planned stop and comes back', async () => {
    const port = server.web.port
    await server.stop()
    await bot.said('closed')
    server = await startGateway({ ...settings(), 'servers.web.port': port })
    await bot.said('resumed')
    await tell(13)
    await hears(13)
    await keeps(13)
  })

  it('keeps its session when it is stopped', async () => {
    await bot.stop()
    await tell(14)
    bot = new Bot(folder.path, server)
    await hears(14)
    await keeps(14)
  })

  it('registers anew when its session is gone', async () => {
    await bot.stop()
    const other = await Shard.connect(server)
    await other.ask(registration())
    other.socket.close(4100)
    await within('the close', other.closed)
    bot = new Bot(folder.path, server)
    await bot.said('invalid')
    await bot.said('ready')
    await tell(1)
    await hears(1)
  })

  it('ends when another instance takes over, and when its credentials are wrong', async () => {
    const other = await Shard.connect(server)
    await other.register()
    assert.equal(await within('the end of the bot', bot.ended), 1)
    bot = new Bot(folder.path, server, { SECRET: 'wrong', STATE_FILE: 'other.json' })
    assert.equal(await within('the end of the bot', bot.ended), 1)
    assert.equal(await bot.said('closed '), '4004')
    await other.cut()
    await server.stop()
  })
})

it('the example bot joins its room and answers interactions', async (test) => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const key = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex')
  const folder = temporaryFolder()
  test.after(() => folder.remove())
  const server = await startGateway({ 'gateway.applications': `[{ id = "${ID}", public_key = "${key}", secret = "${SECRET}" }]` })
  test.after(() => server.kill())
  const bot = new Bot(folder.path, server, { PUBLIC_KEY: key, ROOM: 'defaultRoom' })
  test.after(() => bot.child.kill('SIGKILL'))
  await bot.said('ready')
  assert.equal(await bot.said('room '), 'join defaultRoom ok')
  const interact = async (body, signer = privateKey) => {
    const [timestamp, text] = [String(Math.floor(Date.now() / 1000)), JSON.stringify(body)]
    const headers = {
      'content-type': 'application/json',
      'x-signature-timestamp': timestamp,
      'x-signature-ed25519': sign(null, Buffer.from(timestamp + text), signer).toString('hex')
    }
    const request = fetch(`${server.web.origin}/interaction`, { method: 'POST', headers, body: text })
    return await within('the answer to an interaction', request)
  }
  const ping = await interact({ id: '1', application_id: ID, type: 1 })
  assert.deepEqual([ping.status, await ping.json()], [200, { type: 1 }])
  const answer = await interact({ id: '2', application_id: ID, type: 2, token: 't' })
  assert.deepEqual([answer.status, await answer.json()], [200, { type: 4, data: { content: 'pong' } }])
  const { event, data } = await bot.heard()
  assert.equal(event, 'INTERACTION_DISCORD')
  assert.deepEqual(data, { shard_id: 0, shard_total: 1, flag: 4, metadata_http: [{ id: '2', application_id: ID, type: 2, token: 't' }] })
  const forged = await interact({ id: '3', application_id: ID, type: 2 }, generateKeyPairSync('ed25519').privateKey)
  assert.equal(forged.status, 401)
  await bot.stop()
  await server.stop()
})
