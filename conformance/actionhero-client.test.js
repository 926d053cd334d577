// Our replacement of ActionHero's browser client, in what the clients that it replaces do not promise. The rest is in
// websocket-generations.test.js, which it must pass like any of them.

import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'

import WebSocket from 'ws'

import { ADMIN, commandConnection } from './support/admin.js'
import { ScriptedServer } from './support/scripted-server.js'
import { emitted, within } from './support/deadline.js'
import { REPLACEMENT, Page } from './support/generations.js'
import { startServer } from './support/server.js'

describe(REPLACEMENT.name, () => {
  let server
  let client

  beforeEach(async () => {
    server = await ScriptedServer.start()
    client = new Page(REPLACEMENT, { web: { origin: server.url.replace('ws', 'http') } }).client
    client.options.WebSocket = WebSocket
  })

  afterEach(() => {
    client.disconnect()
    server.stop()
  })

  /** Connects it, and gives its link. */
  async function connected () {
    const details = new Promise((resolve) => client.connect((error, answer) => resolve([error, answer])))
    const link = await server.link(0)
    await link.greet([], 'first')
    const [error, { data }] = await within('the connection', details)
    assert.deepEqual([error, data.id, client.id, client.state], [null, 'first', 'first', 'connected'])
    return link
  }

  /** Calls a method and gives what its callback gets. */
  function call (method, ...words) {
    return within(`the answer to ${method}`, new Promise((resolve) => client[method](...words, resolve)))
  }

  it('answers every request itself that a lost link leaves open', async () => {
    const link = await connected()
    const answers = [call('detailsView'), call('action', 'slow'), call('roomAdd', 'room')]
    for (let n = 0; n < answers.length; n++) await link.request()
    link.socket.terminate()
    for (const answer of answers) assert.equal((await answer).error, 'the connection was lost')
  })

  it('keeps what it is asked while the link is away, and sends it behind its rooms', async () => {
    const first = await connected()
    const joined = call('roomAdd', 'room')
    first.answer(await first.request(), { status: 'OK', data: true })
    first.answer(await first.request(), { status: 'OK', data: { id: 'first', fingerprint: null, rooms: ['room'] } })
    assert.equal((await joined).data, true)
    const away = emitted(client, 'disconnected')
    first.socket.terminate()
    await away
    const said = call('say', 'room', 'while I was away')
    const back = emitted(client, 'reconnect')
    const second = await server.link(1)
    assert.deepEqual((await second.greet(['room'], 'second')).map(({ event }) => event), ['roomAdd', 'detailsView'])
    await back
    const request = await second.request()
    assert.deepEqual([request.event, request.message], ['say', 'while I was away'])
    second.answer(request, { status: 'OK' })
    assert.equal((await said).status, 'OK')
    assert.deepEqual([client.id, client.rooms], ['second', ['room']])
  })

  it('keeps a bounded number of requests', async () => {
    await connected()
    for (let n = 0; n < 1000; n++) client.detailsView()
    assert.equal((await call('detailsView')).error, 'too many requests wait for their answers')
  })

  it('does not come back to a server that dismissed it, and then refuses', async () => {
    const link = await connected()
    const gone = emitted(client, 'disconnected')
    link.send('primus::server::close')
    link.socket.close(1000)
    await gone
    assert.equal(client.state, 'disconnected')
    assert.equal((await call('detailsView')).error, 'there is no connection')
  })

  it('answers pings and tells messages apart', async () => {
    const link = await connected()
    link.send('primus::ping::7')
    assert.equal(await link.request(), 'primus::pong::7')
    const seen = []
    for (const name of ['say', 'alert', 'api', 'message']) client.on(name, (message) => seen.push([name, message]))
    const user = { context: 'user', message: 'hello' }
    const alert = { context: 'alert', message: 'fire' }
    const api = { context: 'api', gap: {} }
    const bare = { hello: 'you' }
    for (const message of [user, alert, api, bare]) link.send(message)
    const last = call('detailsView')
    const request = await link.request()
    link.answer(request, { status: 'OK' })
    const answer = await last
    assert.deepEqual(seen, [
      ['message', user], ['say', user], ['message', alert], ['alert', alert], ['message', api], ['api', api], ['message', bare],
      ['message', answer]
    ])
  })

  it('does what the server asks for, and says what it can do again when it comes back', async () => {
    client.onCommand('one', ({ data }) => ({ n: data + 1 }))
    client.onCommand('two', () => { throw new Error('no luck') })
    const details = new Promise((resolve) => client.connect((error, answer) => resolve([error, answer])))
    const first = await server.link(0)
    const says = ({ event, data }) => [event, data]
    assert.deepEqual((await first.greet()).map(says), [['setCustomClientData', { commands: ['one', 'two'] }], ['detailsView', undefined]])
    await details
    client.onCommand('list', () => [1])
    assert.deepEqual(says(await first.request()), ['setCustomClientData', { commands: ['one', 'two', 'list'] }])
    for (const [key, reply] of [
      ['one', { success: true, n: 8 }],
      ['two', { success: false, error: { message: 'no luck' } }],
      ['list', { success: true, data: [1] }],
      ['three', { success: false, error: { message: 'this client has no handler for three' } }]
    ]) {
      first.send({ context: 'command', _id: `id of ${key}`, key, cmd: { key, data: 7 }, data: 7, ts: 1, ttl_ms: 5000 })
      const request = await first.request()
      assert.deepEqual([request.event, request.id, request.reply], ['replyClientCommand', `id of ${key}`, reply])
    }
    // Nobody waits for this one any more. When the first answer is there, it is; the second request would come behind its reply.
    first.send({ context: 'command', _id: 'late', key: 'two', cmd: { key: 'two' }, ts: 1, ttl_ms: 0 })
    for (let n = 0; n < 2; n++) {
      const answer = call('detailsView')
      const request = await first.request()
      assert.equal(request.event, 'detailsView')
      first.answer(request, { status: 'OK' })
      await answer
    }
    const back = emitted(client, 'reconnect')
    first.socket.close(1012)
    await within('the close', first.closed)
    const requests = await (await server.link(1)).greet()
    assert.deepEqual(requests.map(({ event }) => event), ['setCustomClientData', 'detailsView'])
    await back
  })

  it('tells its listeners once, for ever, or no more, as they wish', () => {
    const heard = []
    const always = (value) => heard.push(['always', value])
    const once = (value) => heard.push(['once', value])
    const never = (value) => heard.push(['never', value])
    client.on('news', always).once('news', once).once('news', never).removeListener('news', never)
    assert.equal(client.emit('news', 1), true)
    client.emit('news', 2)
    assert.deepEqual(heard, [['always', 1], ['once', 1], ['always', 2]])
    client.removeAllListeners('news')
    assert.equal(client.emit('news', 3), false)
  })

  it('says over HTTP what went wrong there, in the shape that pages know', async () => {
    client.options.url = 'http://127.0.0.1:9'
    const { error } = await call('action', 'randomNumber')
    assert.deepEqual([typeof error.statusText, error.responseText], ['string', ''])
  })
})

describe(`${REPLACEMENT.name} on the real server`, () => {
  it('calls the callback of connect once with the reason when its WebSocket is refused, and goes on trying', async (test) => {
    const server = await startServer({ 'servers.websocket.enabled': false })
    test.after(() => server.kill())
    const { client } = new Page(REPLACEMENT, server)
    test.after(() => client.disconnect())
    const told = emitted(client, 'error')
    const trying = emitted(client, 'reconnecting')
    const results = []
    const error = await within('the callback', new Promise((resolve) => client.connect((error) => {
      results.push(error)
      resolve(error)
    })))
    assert.equal(error.message, 'no WebSocket here')
    assert.equal((await told)[0].message, 'no WebSocket here')
    await trying
    client.disconnect()
    assert.equal(results.length, 1)
    await server.stop()
  })

  it('does what that asks for, also when it was started again', async (test) => {
    let server = await startServer(ADMIN)
    test.after(() => server.kill())
    const page = new Page(REPLACEMENT, server)
    const { client } = page
    client.onCommand('sum', ({ data }) => ({ sum: data.reduce((sum, n) => sum + n, 0) }))
    client.onCommand('whoAreYou', async () => ({ id: (await page.call('detailsView')).data.id }))
    await page.connect()
    test.after(() => page.close())
    const judge = async () => {
      for (const [command, reply] of [
        [{ key: 'sum', data: [1, 2, 3] }, { success: true, sum: 6 }],
        [{ key: 'whoAreYou' }, { success: true, id: client.id }],
        [{ key: 'dance' }, { success: false, error: { message: 'this client has no handler for dance' } }]
      ]) {
        const { status, body } = await commandConnection(server, client.id, command)
        assert.equal(status, 200, JSON.stringify(body))
        assert.deepEqual(body.reply, reply)
      }
    }
    await judge()
    const before = client.id
    const back = emitted(client, 'connected')
    await server.stop()
    server = await startServer({ ...ADMIN, 'servers.web.port': server.web.port })
    await back
    assert.notEqual(client.id, before)
    await judge()
    page.close()
    await server.stop()
  })
})
