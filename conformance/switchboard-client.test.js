// Our own client for web pages: what it promises, on the real server where that can be had, else on one that follows a script.

import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'

import WebSocket from 'ws'

import { ADMIN, ask, commandConnection } from './support/admin.js'
import { ScriptedServer } from './support/scripted-server.js'
import { within } from './support/deadline.js'
import { RawClient } from './support/raw.js'
import { FILES, startServer } from './support/server.js'
import { Switchboard, SwitchboardError } from './support/switchboard.js'

const ROOM = 'defaultRoom'
const QUICK = { WebSocket, reconnect: { min: 1, max: 20 } }

/** The next event of this name. */
function next (client, name) {
  return within(`event "${name}"`, new Promise((resolve) => {
    const stop = client.on(name, (value) => {
      stop()
      resolve(value)
    })
  }))
}

/** What a promise is rejected with, as code and message; any other error fails the test. */
async function failure (promise) {
  const error = await within('a failure', promise.then((value) => assert.fail(`it gave ${JSON.stringify(value)}`), (error) => error))
  assert.ok(error instanceof SwitchboardError, error.stack)
  return [error.code, error.message]
}

describe('the client on the real server', () => {
  let server
  let client

  before(async () => {
    server = await startServer()
    client = new Switchboard(server.web.socket, QUICK)
  })

  after(async () => {
    client?.disconnect()
    await server?.stop()
  })

  it('is welcomed, and learns who it is', async () => {
    const welcome = next(client, 'welcome')
    const connected = next(client, 'connected')
    const details = await client.connect()
    assert.equal((await welcome).welcome, 'Hello! Welcome to the actionhero api')
    assert.deepEqual(await connected, details)
    assert.deepEqual([client.state, client.id, client.rooms], ['connected', details.id, []])
    assert.deepEqual((await client.details()).id, details.id)
    assert.deepEqual(await client.connect(), details)
  })

  it('runs actions', async () => {
    const { randomNumber } = await client.action('randomNumber')
    assert.ok(randomNumber < 1)
    const { cacheTestResults } = await client.action('cacheTest', { key: 'mykey', value: 'vvv' })
    assert.equal(cacheTestResults.loadResp.value, 'vvv')
    const naps = [60, 20].map((sleepDuration) => client.action('sleepTest', { sleepDuration }))
    assert.deepEqual((await Promise.all(naps)).map((nap) => nap.sleepDuration), [60, 20])
  })

  it('rejects with the answer when an action fails', async () => {
    const error = await client.action('cacheTest', { value: 'vvv' }).catch((error) => error)
    assert.ok(error instanceof SwitchboardError)
    assert.deepEqual([error.code, error.message], ['refused', 'Error: key is a required parameter for this action'])
    assert.equal(error.answer.error, error.message)
  })

  it('joins, views, speaks in and leaves rooms', async () => {
    assert.deepEqual(await failure(client.room(ROOM)), ['refused', `not member of room ${ROOM}`])
    await client.join(ROOM)
    // To be there already is as good.
    await client.join(ROOM)
    assert.deepEqual(client.rooms, [ROOM])
    assert.deepEqual(Object.keys((await client.room(ROOM)).members), [client.id])
    const raw = await RawClient.connect(server)
    await raw.ask(`roomAdd ${ROOM}`)
    assert.equal(await client.say(ROOM, 'two  words, привет 🦀'), null)
    const { message, from } = await raw.hear()
    assert.deepEqual([message, from], ['two  words, привет 🦀', client.id])
    const said = next(client, 'say')
    await raw.ask(`say ${ROOM} <b>hello</b>`)
    const heard = await said
    assert.deepEqual([heard.message, heard.room, heard.from], ['<b>hello</b>', ROOM, await raw.id()])
    await raw.quit()
    await client.leave(ROOM)
    await client.leave(ROOM)
    assert.deepEqual(client.rooms, [])
    assert.deepEqual(await failure(client.say(ROOM, 'hello')), ['refused', 'connection not in this room'])
    assert.deepEqual(await failure(client.join('noSuchRoom')), ['refused', 'room does not exist'])
    assert.deepEqual(client.rooms, [])
  })

  it('reads files and the documentation', async () => {
    const file = await client.file('simple.html')
    assert.deepEqual([file.content, file.mime], [FILES['simple.html'], 'text/html'])
    assert.deepEqual(await failure(client.file('missing.html')), ['refused', 'Sorry, that file is not found :('])
    assert.equal((await client.documentation()).randomNumber[1].name, 'randomNumber')
  })

  it('rejects with the text of the server when a WebSocket is refused, and says so', async (test) => {
    const refusing = await startServer({ 'servers.websocket.enabled': false })
    test.after(() => refusing.kill())
    const refused = new Switchboard(refusing.web.socket, QUICK)
    const told = next(refused, 'error')
    assert.deepEqual(await failure(refused.connect()), ['refused', 'no WebSocket here'])
    assert.deepEqual([(await told).message, refused.state], ['no WebSocket here', 'disconnected'])
    await refusing.stop()
  })

  it('is in its rooms again before it says that it is back', async (test) => {
    const first = await startServer()
    test.after(() => first.kill())
    const away = new Switchboard(first.web.socket, QUICK)
    test.after(() => away.disconnect())
    const before = await away.connect()
    await away.join(ROOM)
    const lost = next(away, 'disconnected')
    const back = next(away, 'connected')
    await first.stop()
    assert.deepEqual(await lost, { code: 1012, reason: '', reconnect: true })
    assert.deepEqual(await failure(away.say(ROOM, 'anybody?')), ['disconnected', 'there is no connection'])
    const second = await startServer({ 'servers.web.port': first.web.port })
    test.after(() => second.kill())
    const details = await back
    assert.deepEqual(details.rooms, [ROOM])
    assert.notEqual(details.id, before.id)
    away.disconnect()
    await second.stop()
  })

  it('does not come back after it said goodbye', async (test) => {
    const leaver = new Switchboard(server.web.socket, QUICK)
    test.after(() => leaver.disconnect())
    await leaver.connect()
    const events = []
    for (const name of ['disconnected', 'reconnecting']) leaver.on(name, (value) => events.push([name, value]))
    const pending = failure(leaver.details())
    leaver.disconnect()
    assert.deepEqual(await pending, ['disconnected', 'disconnect() was called'])
    assert.deepEqual(events, [['disconnected', { code: 1000, reason: '', reconnect: false }]])
    assert.deepEqual([leaver.state, leaver.id], ['disconnected', null])
    // And may come again when it wants to.
    assert.ok((await leaver.connect()).id)
  })

  it('is dismissed by a server that says so', async (test) => {
    const guest = new Switchboard(server.web.socket, QUICK)
    test.after(() => guest.disconnect())
    await guest.connect()
    const gone = next(guest, 'disconnected')
    const quit = failure(guest.request('quit'))
    assert.equal((await gone).reconnect, false)
    assert.equal((await quit)[0], 'disconnected')
    assert.equal(guest.state, 'disconnected')
  })
})

describe('the client on the real server, which asks it to do something', () => {
  let server
  let client
  const errors = []

  before(async () => {
    server = await startServer(ADMIN)
    client = new Switchboard(server.web.socket, { ...QUICK, clientData: { extended: true } })
    client.on('error', (error) => errors.push(error))
    client.onCommand('sum', ({ data }) => ({ sum: data.reduce((sum, n) => sum + n, 0) }))
    client.onCommand('whoAreYou', async () => ({ id: (await client.details()).id }))
    await client.connect()
  })

  after(async () => {
    client?.disconnect()
    await server?.stop()
    assert.deepEqual(errors, [])
  })

  /** The reply that the sender of this command is given. */
  async function outcome (command, options) {
    const { status, body } = await commandConnection(server, client.id, command, options)
    assert.equal(status, 200, JSON.stringify(body))
    assert.equal(body.outcome, 'replied')
    return body.reply
  }

  /** Waits until the server knows which handlers there are: the client says so a moment later, and is answered in order. */
  async function announced () {
    await null
    await client.details()
  }

  it('gives the sender what the handler returns', async () => {
    assert.deepEqual(await outcome({ key: 'sum', data: [1, 2, 3] }), { success: true, sum: 6 })
    assert.deepEqual(await outcome({ key: 'sum', data: [] }, { require_capability: true }), { success: true, sum: 0 })
  })

  it('asks the server in a handler, and replies with what that said', async () => {
    assert.deepEqual(await outcome({ key: 'whoAreYou' }), { success: true, id: client.id })
  })

  it('tells the sender why it could not, which is a reply as well', async () => {
    assert.deepEqual(await outcome({ key: 'dance' }), { success: false, error: { message: 'this client has no handler for dance' } })
    const { success, error } = await outcome({ key: 'sum' })
    assert.deepEqual([success, typeof error.message], [false, 'string'])
  })

  it('takes a key from the moment that its handler comes to the moment that it goes', async () => {
    const stop = client.onCommand('late', () => 'here')
    await announced()
    assert.deepEqual(await outcome({ key: 'late' }, { require_capability: true }), { success: true, data: 'here' })
    stop()
    await announced()
    const { status } = await commandConnection(server, client.id, { key: 'late' }, { require_capability: true, fail_fast: true })
    assert.equal(status, 504)
  })

  it('sees the numbers and users of messages, as it has asked for', async () => {
    const raw = await RawClient.connect(server)
    const patch = await ask(server, 'PATCH', `/v1/connections/${await raw.id()}`, { user: 'alice' })
    assert.equal(patch.status, 200, patch.text)
    await raw.ask(`roomAdd ${ROOM}`)
    await client.join(ROOM)
    const said = next(client, 'say')
    await raw.ask(`say ${ROOM} good evening`)
    const { message, number, user } = await said
    assert.deepEqual([message, user], ['good evening', 'alice'])
    assert.deepEqual(await client.say(ROOM, 'and to you'), { number: number + 1 })
    assert.equal((await raw.hear()).message, 'and to you')
    await raw.quit()
  })

  it('says what it takes again when the server is started again', async () => {
    const before = client.id
    const back = next(client, 'connected')
    await server.stop()
    server = await startServer({ ...ADMIN, 'servers.web.port': server.web.port })
    await back
    assert.notEqual(client.id, before)
    assert.deepEqual(await outcome({ key: 'sum', data: [4, 5] }, { require_capability: true }), { success: true, sum: 9 })
    const { number } = await client.say(ROOM, 'here again')
    assert.equal(typeof number, 'number')
  })
})

describe('the client on a server that follows a script', () => {
  let server
  let client

  beforeEach(async () => { server = await ScriptedServer.start() })

  afterEach(() => {
    client.disconnect()
    server.stop()
  })

  /** A client that is connected, and its link. */
  async function connected (options = {}) {
    client = new Switchboard(server.url, { ...QUICK, ...options })
    const details = client.connect()
    const link = await server.link(0)
    await link.greet()
    await details
    return link
  }

  it('answers pings', async () => {
    const link = await connected()
    link.send('primus::ping::1700000000000')
    assert.equal(await link.request(), 'primus::pong::1700000000000')
  })

  it('drops a link on which nothing is heard', async () => {
    const link = await connected({ silence: 50 })
    assert.deepEqual(await next(client, 'disconnected'), { code: 1006, reason: 'nothing heard for 50 ms', reconnect: true })
    await within('the close', link.closed)
    await (await server.link(1)).greet()
  })

  it('gives up a server that takes the connection and says nothing', async () => {
    client = new Switchboard(server.url, { ...QUICK, timeout: 250 })
    const details = failure(client.connect())
    await within('the close', (await server.link(0)).closed)
    assert.deepEqual(await details, ['disconnected', `no connection to ${server.url} (1006: no connection within 250 ms)`])
  })

  it('gives up a server that answers nonsense', async () => {
    client = new Switchboard(server.url, QUICK)
    for (const [number, answer] of [{ status: 'OK', data: 'nonsense' }, { status: 'no', data: null }].entries()) {
      const details = failure(client.connect())
      const link = await server.link(number)
      link.answer(await link.request(), answer)
      const [code, message] = await details
      assert.equal(code, 'disconnected')
      assert.match(message, /^no connection to .* \(1006: /)
    }
  })

  it('says nothing about a request whose answer is late, but to who asked', async () => {
    const link = await connected()
    const others = []
    client.on('message', (message) => others.push(message))
    assert.deepEqual(await failure(client.action('slow', {}, { timeout: 20 })), ['timeout', 'action: no answer within 20 ms'])
    const request = await link.request()
    link.answer(request, { late: true })
    const later = client.action('quick')
    link.answer(await link.request(), { quick: true })
    assert.equal((await later).quick, true)
    assert.deepEqual(others, [])
  })

  it('has a bound for requests that wait', async () => {
    const link = await connected({ maxPending: 2 })
    const first = client.action('one')
    const second = client.action('two')
    assert.deepEqual(await failure(client.action('three')), ['busy', '2 requests wait for their answers'])
    for (const name of ['one', 'two']) {
      const request = await link.request()
      assert.equal(request.params.action, name)
      link.answer(request, { name })
    }
    assert.deepEqual([(await first).name, (await second).name], ['one', 'two'])
  })

  it('takes answers in any order, and a status of an action for what it is', async () => {
    const link = await connected()
    const first = client.action('first')
    const second = client.action('second')
    const requests = [await link.request(), await link.request()]
    link.answer(requests[1], { status: 'broken', error: null })
    link.answer(requests[0], { status: 'fine' })
    assert.deepEqual([(await first).status, (await second).status], ['fine', 'broken'])
  })

  it('tells messages apart', async () => {
    const link = await connected()
    const seen = []
    for (const name of ['say', 'gap', 'message', 'error']) client.on(name, (value) => seen.push([name, value.code ?? value]))
    const sent = [
      ['say', { context: 'user', room: ROOM, from: 0, message: { any: 'thing' }, sentAt: 1 }],
      ['gap', { context: 'api', room: ROOM, gap: { first: 5, last: 7 } }],
      ['message', { hello: 'you' }],
      ['message', { hello: 'you', context: 'response', messageCount: 7 }],
      ['message', { context: 'command', key: 'k' }],
      ['message', 'text']
    ]
    for (const [, message] of sent) link.send(message)
    link.socket.send('not JSON')
    link.send('primus::nothing::known')
    const pending = client.details()
    link.answer(await link.request(), { status: 'OK', data: { id: 'x' } })
    await pending
    assert.deepEqual(seen, [...sent, ['error', 'protocol']])
  })

  it('joins again what it had joined, and tells which room is gone', async () => {
    const first = await connected()
    for (const room of ['kept', 'gone', 'left']) {
      const joined = client.join(room)
      first.answer(await first.request(), { status: 'OK', data: true })
      await joined
    }
    const left = client.leave('left')
    first.answer(await first.request(), { status: 'OK', data: true })
    await left
    first.socket.close(1013)
    const events = []
    for (const name of ['connected', 'error']) client.on(name, (value) => events.push([name, value.message ?? value.rooms]))
    const back = next(client, 'connected')
    const requests = await (await server.link(1)).greet(['kept'])
    assert.deepEqual(requests.map(({ event, room }) => [event, room]), [['roomAdd', 'kept'], ['roomAdd', 'gone'], ['detailsView', undefined]])
    await back
    assert.deepEqual(events, [['connected', ['kept']], ['error', 'the server did not let this client into gone again']])
    assert.deepEqual(client.rooms, ['kept'])
  })

  describe('does what the server asks for', () => {
    const command = (key, members) => ({
      context: 'command', _id: `id of ${key}`, key, cmd: { key }, ts: 1_795_289_702_430, ttl_ms: 5000, ...members
    })

    /** The next request of the link, which must be of this verb; it is answered with this. */
    async function taken (link, event, answer = { status: 'OK', data: true }) {
      const request = await link.request()
      assert.equal(request.event, event)
      link.answer(request, answer)
      return request
    }

    /** A client with these handlers, and its link. */
    async function obedient (handlers, options = {}) {
      client = new Switchboard(server.url, { ...QUICK, ...options })
      for (const [key, handler] of Object.entries(handlers)) client.onCommand(key, handler)
      const details = client.connect()
      const link = await server.link(0)
      const requests = await link.greet()
      await details
      return { link, requests }
    }

    it('says which commands it takes, and what else the page wants to say, before it takes its rooms, each time', async () => {
      const clientData = { framework: 'test', extended: true, commands: 'ours' }
      const data = { framework: 'test', extended: true, commands: ['one', 'two'] }
      const { link, requests } = await obedient({ one () {}, two () {} }, { clientData })
      assert.deepEqual(requests.map(({ event, data }) => [event, data]), [['setCustomClientData', data], ['detailsView', undefined]])
      const joined = client.join('room')
      await taken(link, 'roomAdd')
      await joined
      link.socket.close(1012)
      const back = next(client, 'connected')
      const again = await (await server.link(1)).greet(['room'])
      await back
      assert.deepEqual(again.map(({ event, data }) => [event, data]), [
        ['setCustomClientData', data], ['roomAdd', undefined], ['detailsView', undefined]
      ])
    })

    it('says nothing about itself when it has nothing to say', async () => {
      const { requests } = await obedient({})
      assert.deepEqual(requests.map(({ event }) => event), ['detailsView'])
    })

    it('says it once for handlers that come and go together', async () => {
      const link = await connected()
      const stop = client.onCommand('one', () => {})
      client.onCommand('two', () => {})
      assert.deepEqual((await taken(link, 'setCustomClientData')).data, { commands: ['one', 'two'] })
      client.onCommand('one', () => {})
      // It stands for a handler that is not there any more.
      stop()
      assert.deepEqual((await taken(link, 'setCustomClientData')).data, { commands: ['one', 'two'] })
    })

    it('takes no more commands when the last handler is gone', async () => {
      const { link } = await obedient({})
      const stop = client.onCommand('one', () => {})
      assert.deepEqual((await taken(link, 'setCustomClientData')).data, { commands: ['one'] })
      stop()
      assert.deepEqual((await taken(link, 'setCustomClientData')).data, {})
      const left = next(client, 'message')
      link.send(command('one'))
      assert.deepEqual(await left, command('one'))
    })

    it('hears of a handler that comes while it is connecting', async () => {
      client = new Switchboard(server.url, QUICK)
      const details = client.connect()
      const link = await server.link(0)
      const asked = await link.request()
      assert.equal(asked.event, 'detailsView')
      client.onCommand('late', () => {})
      assert.deepEqual((await taken(link, 'setCustomClientData')).data, { commands: ['late'] })
      link.answer(asked, { status: 'OK', data: { id: 'x', rooms: [] } })
      await details
    })

    it('replies with what the handler returns', async () => {
      const heard = []
      const { link } = await obedient({
        nothing (command) { heard.push(command) },
        object: () => ({ cleared: 12 }),
        later: async () => ({ success: false, why: 'not now' }),
        list: () => [1],
        text: () => 'done'
      })
      const sent = command('nothing', { data: { a: 1 }, cmd: { key: 'nothing', data: { a: 1 } } })
      for (const [message, reply] of [
        [sent, { success: true }],
        [command('object'), { success: true, cleared: 12 }],
        [command('later'), { success: false, why: 'not now' }],
        [command('list'), { success: true, data: [1] }],
        [command('text'), { success: true, data: 'done' }]
      ]) {
        link.send(message)
        const request = await taken(link, 'replyClientCommand')
        assert.deepEqual([request.id, request.reply], [message._id, reply])
      }
      assert.deepEqual(heard, [sent])
    })

    it('replies why it could not: no handler, one that throws or rejects, a reply that cannot be sent', async () => {
      const { link } = await obedient({
        throws () { throw new Error('no luck') },
        rejects: () => Promise.reject('just a text'),
        cannotBeSent: () => ({ n: 1n })
      })
      for (const [key, message] of [
        ['unknown', 'this client has no handler for unknown'],
        ['throws', 'no luck'],
        ['rejects', 'just a text'],
        ['cannotBeSent', /BigInt/]
      ]) {
        link.send(command(key))
        const { reply } = await taken(link, 'replyClientCommand')
        assert.equal(reply.success, false)
        assert.match(reply.error.message, message instanceof RegExp ? message : new RegExp(`^${message}$`))
      }
    })

    it('replies that its reply was refused, and tells the page when that is refused too', async () => {
      const { link } = await obedient({ getLogs: () => ({ logs: ['much'] }) })
      const told = next(client, 'error')
      link.send(command('getLogs'))
      const refusal = { status: 'the reply is too large' }
      assert.deepEqual((await taken(link, 'replyClientCommand', refusal)).reply, { success: true, logs: ['much'] })
      assert.deepEqual((await taken(link, 'replyClientCommand', refusal)).reply, { success: false, error: { message: 'the reply is too large' } })
      const { code, message } = await told
      assert.deepEqual([code, message], ['refused', 'the reply is too large'])
    })

    it('does not send a reply for which nobody waits any more', async () => {
      let finish
      const { link } = await obedient({ slow: () => new Promise((resolve) => { finish = resolve }) })
      link.send(command('slow', { ttl_ms: 0 }))
      // When the first answer is there, the command is; what the second request finds before it would be the reply.
      for (const react of [() => finish({ much: true }), () => {}, () => {}]) {
        const pending = client.details()
        await taken(link, 'detailsView', { status: 'OK', data: {} })
        await pending
        react()
      }
    })

    it('asks the server while it works on a command, and is not held up by it', async () => {
      const { link } = await obedient({
        count: async () => ({ rooms: (await client.details()).rooms.length })
      })
      link.send(command('count'))
      await taken(link, 'detailsView', { status: 'OK', data: { rooms: ['a', 'b'] } })
      assert.deepEqual((await taken(link, 'replyClientCommand')).reply, { success: true, rooms: 2 })
    })

    it('tells the page when the server does not take its client data', async () => {
      const link = await connected()
      client.onCommand('one', () => {})
      const told = next(client, 'error')
      await taken(link, 'setCustomClientData', { status: 'verb not found or not allowed', data: null })
      const { code, message } = await told
      assert.deepEqual([code, message], ['refused', 'verb not found or not allowed'])
    })
  })

  it('comes back after every close but a goodbye', async () => {
    await connected()
    for (const [number, code] of [1000, 1001, 1008, 1009, 1011, 1012, 1013].entries()) {
      const lost = next(client, 'disconnected')
      const back = next(client, 'connected')
      const pending = failure(client.action('never answered'))
      server.links[number].socket.close(code)
      assert.deepEqual(await lost, { code, reason: '', reconnect: true })
      assert.deepEqual(await pending, ['disconnected', `the connection was lost (${code})`])
      await (await server.link(number + 1)).greet()
      await back
    }
    const lost = next(client, 'disconnected')
    server.links.at(-1).send('primus::server::close')
    server.links.at(-1).socket.close(1000)
    assert.deepEqual(await lost, { code: 1000, reason: '', reconnect: false })
    assert.equal(client.state, 'disconnected')
  })

  it('waits longer each time, up to a bound, and never at the same moment as others', async () => {
    const link = await connected({ WebSocket: OnceReachable(WebSocket), reconnect: { min: 10, max: 60, factor: 2 } })
    const bounds = [10, 20, 40, 60, 60, 60]
    const delays = []
    const enough = new Promise((resolve) => client.on('reconnecting', ({ attempt, delay }) => {
      assert.equal(attempt, delays.length + 1)
      assert.ok(delay >= 0 && delay <= bounds[delays.length], `${delay} ms before attempt ${attempt}`)
      if (delays.push(delay) === bounds.length) resolve()
    }))
    link.socket.close(1012)
    await within('six attempts', enough)
    assert.ok(new Set(delays).size > 1, `${delays}`)
    const hope = failure(client.connect())
    client.disconnect()
    assert.deepEqual(await hope, ['disconnected', 'disconnect() was called'])
  })

  it('rejects and says so once when the server is not there, and does not try again', async () => {
    for (const reconnect of [false, {}]) {
      client = new Switchboard('ws://127.0.0.1:9', { WebSocket: Unreachable, reconnect })
      const errors = []
      client.on('error', ({ code, message }) => errors.push([code, message]))
      client.on('reconnecting', assert.fail)
      const expected = ['disconnected', 'no connection to ws://127.0.0.1:9/primus (1006)']
      assert.deepEqual(await failure(client.connect()), expected)
      assert.deepEqual(errors, [expected])
      assert.equal(client.state, 'disconnected')
    }
  })

  it('settles a promise of connect with the next attempt while it reconnects', async () => {
    const link = await connected({ WebSocket: OnceReachable(WebSocket) })
    const lost = next(client, 'disconnected')
    link.socket.close(1012)
    await lost
    assert.deepEqual(await failure(client.connect()), ['disconnected', 'the connection was lost (1006)'])
    assert.equal(client.state, 'reconnecting')
  })

  it('goes on when a listener of the page throws', async (test) => {
    const link = await connected()
    const thrown = new Promise((resolve) => {
      test.mock.method(globalThis, 'queueMicrotask', (report) => {
        try { report() } catch (error) { resolve(error.message) }
      })
    })
    client.on('say', () => { throw new Error('mistake of the page') })
    const heard = next(client, 'say')
    link.send({ context: 'user', room: ROOM, from: 0, message: 'hello', sentAt: 1 })
    assert.equal((await heard).message, 'hello')
    assert.equal(await within('the report', thrown), 'mistake of the page')
  })

  it('makes the address of the WebSocket from that of the server', () => {
    for (const [given, url] of [
      ['http://chat.example', 'ws://chat.example/primus'],
      ['https://chat.example:8443/', 'wss://chat.example:8443/primus'],
      ['ws://127.0.0.1:8080/primus', 'ws://127.0.0.1:8080/primus'],
      ['https://chat.example/under/here?a=b#c', 'wss://chat.example/under/here?a=b']
    ]) {
      client = new Switchboard(given, QUICK)
      assert.equal(client.url, url)
    }
  })
})

/** A class of WebSockets whose first one connects, and whose others are to a server that is not there. */
function OnceReachable (WebSocket) {
  let used = 0
  return function (url) {
    return used++ === 0 ? new WebSocket(url) : new Unreachable()
  }
}

/** A WebSocket to a server that is not there. */
class Unreachable {
  constructor () {
    setImmediate(() => this.onclose({ code: 1006, reason: '' }))
  }

  close () {}
}
