// Other people's clients that speak DDP, all on one server: login, client commands, rooms, coming back.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { command } from './support/admin.js'
import { CLIENTS } from './support/ddp-bots.js'
import { PASSWORD, ROOM, startDdpServer, userId } from './support/ddp-server.js'
import { emitted } from './support/deadline.js'
import { RawClient } from './support/raw.js'
import { Wire } from './support/wire.js'

const names = CLIENTS.map((client, number) => `bot${number}`)

/** Seventeen characters, none of which looks like another. */
const ID = /^[23456789A-HJ-NP-TW-Za-km-z]{17}$/

describe('a server that speaks DDP', () => {
  let server

  before(async () => { server = await startDdpServer(names) })

  after(() => server?.stop())

  for (const [number, client] of CLIENTS.entries()) {
    describe(client.name, () => judge(() => server, names[number], client))
  }
})

function judge (server, name, { connect, dates }) {
  let wire
  let bot

  before(async () => {
    wire = await Wire.to(server().web)
    bot = await connect(wire)
  })

  after(async () => {
    await bot?.close()
    wire?.close()
  })

  /** The command of the admin API, while the bot answers each that it gets by what `reply` makes of it. */
  const exchange = async (document, reply, options) => {
    const outcome = command(server(), name, document, options)
    const early = outcome.then((outcome) => assert.fail(`it ended before it arrived: ${JSON.stringify(outcome)}`))
    const received = await Promise.race([bot.commands.next(), early])
    if (reply) assert.equal(await bot.call('replyClientCommand', received._id, reply), true)
    return { received, ...await outcome }
  }

  it('is told why a login is refused', async () => {
    const refusal = (reason) => ({ error: 403, reason, message: `${reason} [403]`, errorType: 'Meteor.Error', isClientSafe: true })
    await assert.rejects(bot.login(name, 'wrong'), refusal('Incorrect password'))
    await assert.rejects(bot.login('nobody', PASSWORD), refusal('User not found'))
  })

  it('logs in', async () => {
    await bot.login(name, PASSWORD)
    assert.equal(bot.id, userId(name))
  })

  it('answers a command', async () => {
    await bot.takeCommands()
    const { received, status, body } = await exchange({ key: 'heartbeat' }, { success: true })
    assert.match(received._id, ID)
    assert.deepEqual([received.key, received.cmd], ['heartbeat', { key: 'heartbeat' }])
    assert.deepEqual(received.u, { _id: userId(name), username: name })
    assert.ok(Math.abs(Date.now() - milliseconds(received.ts)) < 60_000)
    assert.equal(status, 200, JSON.stringify(body))
    const { id, outcome, counts, reply } = body
    assert.deepEqual({ id, outcome, counts, reply }, {
      id: received._id, outcome: 'replied', counts: { sessions: 1, delivered: 1, replied: 1 }, reply: { success: true }
    })
  })

  it('gets what the sender put into a command, and the sender what it put into the reply', async () => {
    const document = { key: 'echoBack', x: { deep: [1, 2, null, 'три'] }, data: { for: 'the later protocol' } }
    const reply = { success: false, error: {}, youSent: document }
    const { received, status, body } = await exchange(document, dates ? { ...reply, at: new Date(5) } : reply)
    assert.deepEqual([received.cmd, received.data], [document, document.data])
    assert.equal(status, 200, JSON.stringify(body))
    assert.deepEqual(body.reply, dates ? { ...reply, at: { $date: 5 } } : reply)
  })

  it('sees the times of commands rise', async () => {
    const outcomes = Array.from({ length: 5 }, (_, number) => command(server(), name, { key: 'count', number }))
    const times = []
    for (let number = 0; number < outcomes.length; number++) {
      const { _id, ts } = await bot.commands.next()
      times.push(milliseconds(ts))
      assert.equal(await bot.call('replyClientCommand', _id, { success: true }), true)
    }
    for (const outcome of outcomes) assert.equal((await outcome).status, 200)
    assert.deepEqual(times, [...new Set(times)].sort((a, b) => a - b))
  })

  it('may leave a command unanswered, which its sender is told', async () => {
    const { received, status, body } = await exchange({ key: 'silence' }, null, { timeout_ms: 200 })
    assert.equal(status, 504, JSON.stringify(body))
    const { code, message, details } = body.error
    assert.deepEqual([code, message, details.method, details.command._id, details.command.cmd], [
      'error-client-command-response-timeout', `${name} didn't respond to the command in time`,
      'sendClientCommand', received._id, { key: 'silence' }
    ])
  })

  it('finds a room, joins it, hears what is said over TCP and answers', async () => {
    const raw = await RawClient.connect(server())
    assert.equal((await raw.ask(`roomAdd ${ROOM}`)).status, 'OK')

    const rid = await bot.call('getRoomIdByNameOrId', ROOM)
    assert.equal(rid, ROOM)
    assert.equal(await bot.call('joinRoom', rid), true)
    await bot.listen(rid)
    assert.equal((await raw.ask(`say ${ROOM} hello bot`)).status, 'OK')
    const heard = await bot.hear()
    const guest = await raw.id()
    assert.deepEqual([heard.rid, heard.msg, heard.u._id, heard.u.username], [rid, 'hello bot', guest, `guest-${guest.slice(0, 8)}`])

    const stored = await bot.call('sendMessage', { rid, msg: `you said: ${heard.msg}` })
    assert.deepEqual([stored.rid, stored.msg, stored.u._id], [rid, 'you said: hello bot', bot.id])
    const { message, room, from } = await raw.hear()
    assert.deepEqual([message, room], ['you said: hello bot', ROOM])
    assert.ok((await raw.ask(`roomView ${ROOM}`)).data.members[from], 'the sender is a member')
    const own = await bot.hear()
    assert.deepEqual([own._id, own.msg, own.u], [stored._id, 'you said: hello bot', { _id: bot.id, username: name, name }])
    assert.ok(milliseconds(own.ts) > milliseconds(heard.ts))
    await raw.quit()
  })

  it('comes back by itself when its connection is cut, and takes commands again', async () => {
    const back = emitted(bot, 'login')
    wire.cut()
    await back
    const { status, body } = await exchange({ key: 'heartbeat' }, { success: true })
    assert.equal(status, 200, JSON.stringify(body))
    assert.equal(wire.connections, 2)
  })

  it('hears its room again after that, without joining it', async () => {
    const raw = await RawClient.connect(server())
    assert.equal((await raw.ask(`roomAdd ${ROOM}`)).status, 'OK')
    assert.equal((await raw.ask(`say ${ROOM} still there?`)).status, 'OK')
    assert.equal((await bot.hear()).msg, 'still there?')
    await raw.quit()
  })

  it('is nobody after a logout, and takes no commands', async () => {
    await bot.logout()
    const { status, body } = await command(server(), name, { key: 'heartbeat' }, { fail_fast: true })
    assert.deepEqual([status, body.error.code], [504, 'error-client-command-no-recipient'])
    await assert.rejects(bot.call('sendMessage', { rid: ROOM, msg: 'nobody says this' }), { error: 'error-invalid-user', reason: 'Invalid user' })
    assert.deepEqual([bot.commands.rest(), bot.messages.rest()], [[], []])
  })
}

/** A date as most clients hand it on, or as one that understands dates does. */
function milliseconds (date) {
  return Number(date.$date ?? date)
}
