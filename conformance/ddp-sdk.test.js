// The SDK that bots are written with: what its driver does by itself, and what a bot does that takes client commands with it.

import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'

import { command } from './support/admin.js'
import { CommandBot } from './support/command-bot.js'
import { PASSWORD, ROOM, startDdpServer, userId } from './support/ddp-server.js'
import { emitted } from './support/deadline.js'
import { RawClient } from './support/raw.js'
import { SdkBot } from './support/sdk-bot.js'
import { temporaryFolder } from './support/server.js'
import { Wire } from './support/wire.js'

/** What is over after each test, the last first. */
const over = []

afterEach(async () => {
  while (over.length > 0) await over.pop()()
})

/** A bot that is logged in. */
async function bot (Kind, address, name = 'bot') {
  const bot = await Kind.connect(address)
  over.push(() => bot.close())
  await bot.login(name, PASSWORD)
  await bot.listening
  return bot
}

/** Somebody on TCP, in the room. */
async function guest (server) {
  const guest = await RawClient.connect(server)
  over.push(() => guest.quit())
  assert.equal((await guest.ask(`roomAdd ${ROOM}`)).status, 'OK')
  return guest
}

async function wireTo (server) {
  const wire = await Wire.to(server.web)
  over.push(() => wire.close())
  return wire
}

/** What a bot did since it was last asked, by the names of frames, methods and subscriptions. */
function done (bot) {
  return bot.sent.splice(0).map(({ msg, method, name }) => method ?? name ?? msg)
}

/** A server that keeps what it knows in a folder, and how to stop it and start another with that on the same port. */
async function lastingServer () {
  const folder = temporaryFolder()
  const settings = { 'backend.kind': 'file', 'node.data_dir': folder.path }
  const first = await startDdpServer(['bot'], settings)
  let running = first
  over.push(async () => {
    await running.stop()
    folder.remove()
  })
  return {
    first,
    async restart () {
      await first.stop()
      running = await startDdpServer(['bot'], { ...settings, 'servers.web.port': first.web.port })
      return running
    }
  }
}

describe('the driver of @rocket.chat/sdk 0.2.9', () => {
  let server

  before(async () => { server = await startDdpServer(['bot', 'alice']) })

  after(() => server?.stop())

  it('joins a room, is spoken to and answers', async () => {
    const subject = await bot(SdkBot, server.web)
    const { driver, messages } = subject
    const somebody = await guest(server)
    await driver.joinRooms([ROOM])
    await subject.respond()
    subject.on('message', ({ msg }) => driver.sendToRoom(`you said: ${msg}`, ROOM))
    assert.equal((await somebody.ask(`say ${ROOM} hello bot`)).status, 'OK')
    const { msg, meta } = await subject.hear()
    assert.deepEqual([msg, meta], ['hello bot', { roomParticipant: true, roomType: 'c', roomName: ROOM }])
    assert.equal((await somebody.hear()).message, 'you said: hello bot')
    assert.equal(await driver.getRoomName(ROOM), ROOM)
    // Had it heard itself, it would have answered.
    assert.equal((await somebody.ask(`say ${ROOM} bye bot`)).status, 'OK')
    assert.equal((await somebody.hear()).message, 'you said: bye bot')
    assert.deepEqual(messages.rest().map(({ msg }) => msg), ['bye bot'])
  })

  it('speaks to one user in a room that nobody else is in', async () => {
    const one = await bot(SdkBot, server.web)
    const other = await bot(SdkBot, server.web, 'alice')
    const somebody = await guest(server)
    for (const subject of [one, other]) await subject.respond({ dm: true })
    const rid = await one.driver.getDirectMessageRoomId('alice')
    assert.equal(await other.driver.getDirectMessageRoomId('bot'), rid)

    await one.driver.sendDirectToUser('psst', 'alice')
    const heard = await other.hear()
    assert.deepEqual([heard.rid, heard.msg, heard.u._id], [rid, 'psst', userId('bot')])
    assert.deepEqual(heard.meta, { roomParticipant: true, roomType: 'd' })
    await other.driver.sendToRoomId(['what?', 'who is there?'], rid)
    assert.deepEqual([(await one.hear()).msg, (await one.hear()).msg], ['what?', 'who is there?'])
    assert.equal((await somebody.ask(`roomView ${rid}`)).data, undefined)
  })

  it('subscribes before it logs in again when its connection was cut, and gets commands', async () => {
    const wire = await wireTo(server)
    const subject = await bot(SdkBot, wire)
    await subject.takeCommands()
    await subject.listen()
    const { token } = subject.received.find(({ msg, result }) => msg === 'result' && result?.token).result
    done(subject)

    const back = emitted(subject, 'login')
    wire.cut()
    await back
    assert.deepEqual(subject.sent.at(-1).params, [{ resume: token }])
    assert.deepEqual(done(subject), [
      'connect', 'meteor.loginServiceConfiguration', 'stream-client-commands', 'stream-room-messages', 'login'
    ])
    const outcome = command(server, 'bot', { key: 'anything' })
    assert.equal(await subject.call('replyClientCommand', (await subject.commands.next())._id, { success: true }), true)
    assert.equal((await outcome).status, 200)
  })

  it('comes back with its token when the server was started again, and is in its rooms without joining', async () => {
    const { first, restart } = await lastingServer()
    const subject = await bot(SdkBot, first.web)
    await subject.driver.joinRooms([ROOM])
    await subject.takeCommands()
    await subject.listen()
    done(subject)

    const back = emitted(subject, 'login')
    const second = await restart()
    // Whoever comes back within the limit gets what was sent meanwhile.
    const outcome = command(second, 'bot', { key: 'anything' }, { timeout_ms: 15_000 })
    await back
    assert.equal(await subject.call('replyClientCommand', (await subject.commands.next())._id, { success: true }), true)
    assert.equal((await outcome).status, 200)
    const somebody = await guest(second)
    assert.equal((await somebody.ask(`say ${ROOM} welcome back`)).status, 'OK')
    assert.equal((await subject.hear()).msg, 'welcome back')
    assert.ok(!done(subject).includes('joinRoom'))
  })
})

describe('a bot as the SDK for client commands would have made it', () => {
  let server

  before(async () => { server = await startDdpServer(['bot']) })

  after(() => server?.stop())

  /** The reply to a command of this key. */
  const reply = async (key, more = {}, options = {}) => {
    const { status, body } = await command(server, 'bot', { key, ...more }, options)
    assert.equal(status, 200, JSON.stringify(body))
    return body.reply
  }

  it('obeys the commands that the SDK knows', async () => {
    const subject = await bot(CommandBot, server.web)
    const somebody = await guest(server)
    await subject.enter(ROOM)
    subject.handlers.set('getStatistics', () => ({ usersInBrain: 3 }))
    assert.deepEqual(await reply('heartbeat'), { success: true })

    assert.equal((await somebody.ask(`say ${ROOM} one to be counted`)).status, 'OK')
    await subject.hear()
    const { success, statistics: { sdk, adapter } } = await reply('getStatistics')
    assert.deepEqual([success, sdk.Bot_Stats_Read_Messages, adapter], [true, 1, { usersInBrain: 3 }])

    const { logs } = await reply('getLogs')
    assert.deepEqual(logs, subject.logged.slice(0, logs.length).slice(-100))
  })

  it('answers commands of its own, and says so when it knows none', async () => {
    const subject = await bot(CommandBot, server.web)
    subject.handlers.set('echoBack', async (cmd) => ({ success: true, youSent: cmd }))
    assert.deepEqual(await reply('echoBack', { x: { deep: [1, 2] } }), {
      success: true, youSent: { key: 'echoBack', x: { deep: [1, 2] } }
    })
    assert.deepEqual(await reply('noSuchThing'), { success: false, error: {} })
  })

  it('passes over no command when many come at once', async () => {
    const subject = await bot(CommandBot, server.web)
    subject.handlers.set('count', async ({ number }) => ({ success: true, number }))
    const replies = await Promise.all(Array.from({ length: 20 }, (_, number) => reply('count', { number })))
    assert.deepEqual(replies.map(({ number }) => number), Array.from({ length: 20 }, (_, number) => number))
  })

  it('hears nothing while it is paused', async () => {
    const subject = await bot(CommandBot, server.web)
    const somebody = await guest(server)
    await subject.enter(ROOM)
    assert.deepEqual(await reply('pauseMessageStream'), { success: true })
    assert.equal((await somebody.ask(`say ${ROOM} while paused`)).status, 'OK')
    assert.deepEqual(await reply('resumeMessageStream'), { success: true })
    assert.equal((await somebody.ask(`say ${ROOM} after resume`)).status, 'OK')
    assert.equal((await subject.hear()).msg, 'after resume')
  })

  it('gets the commands that were waiting for it when it logs in', async () => {
    const replies = ['heartbeat', 'heartbeat'].map((key) => reply(key, {}, { timeout_ms: 10_000 }))
    await bot(CommandBot, server.web)
    assert.deepEqual(await Promise.all(replies), [{ success: true }, { success: true }])
  })

  it('announces itself again when its connection was cut, and obeys', async () => {
    const wire = await wireTo(server)
    const subject = await bot(CommandBot, wire)
    await subject.enter(ROOM)
    done(subject)
    const back = emitted(subject, 'login')
    wire.cut()
    await back
    assert.deepEqual(await reply('heartbeat'), { success: true })
    assert.deepEqual(done(subject), [
      'connect', 'meteor.loginServiceConfiguration', 'stream-client-commands', 'stream-room-messages', 'login',
      'setCustomClientData', 'replyClientCommand'
    ])
  })

  it('lives on when the server was started again', async () => {
    const { first, restart } = await lastingServer()
    await bot(CommandBot, first.web)
    const second = await restart()
    const outcome = await command(second, 'bot', { key: 'heartbeat' }, { timeout_ms: 15_000 })
    assert.equal(outcome.status, 200, JSON.stringify(outcome.body))
    assert.deepEqual(outcome.body.reply, { success: true })
  })
})
