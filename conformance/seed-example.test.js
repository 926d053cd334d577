// The two examples that ActionHero's documentation of its socket server gives: the client program and the dialogue.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import ActionheroClient from 'actionhero-client-4'

import { DEADLINE_MS, emitted, within } from './support/deadline.js'
import { RawClient } from './support/raw.js'
import { startServer } from './support/server.js'

const WELCOME = 'Hello! Welcome to the actionhero api'

describe('the example of the documentation', () => {
  let server
  before(async () => { server = await startServer() })
  after(() => server?.stop())

  it('runs as it is written, with actionhero-client 4.0.1', async () => {
    const listener = await RawClient.connect(server)
    await listener.ask('roomAdd defaultRoom')

    const printed = { welcome: [], say: [], error: [], end: 0, timeout: [] }
    const client = new ActionheroClient()
    client.on('welcome', (message) => printed.welcome.push(message))
    client.on('say', (message) => printed.say.push(message))
    client.on('error', (error, data) => printed.error.push([error, data]))
    client.on('end', () => printed.end++)
    client.on('timeout', (error, request) => printed.timeout.push([error, request]))

    await within('the connection', new Promise((resolve) => {
      client.connect({ host: server.host, port: String(server.port), timeout: DEADLINE_MS }, resolve)
    }))
    assert.deepEqual(printed.welcome, [WELCOME])
    assert.deepEqual(
      Object.keys(client.details),
      ['id', 'fingerprint', 'remoteIP', 'remotePort', 'params', 'connectedAt', 'rooms', 'totalActions', 'pendingActions'])
    assert.deepEqual([client.details.params, client.details.rooms, client.details.totalActions], [{}, [], 0])

    // All of it goes out at once: an action, and joining; and as soon as it is in, speaking and leaving.
    const action = new Promise((resolve) => {
      const params = { key: 'mykey', value: 'myValue' }
      client.actionWithParams('cacheTest', params, (error, response, delta) => resolve({ error, response, delta }))
    })
    const joined = new Promise((resolve) => {
      client.roomAdd('defaultRoom', (error) => {
        client.say('defaultRoom', 'Hello from the actionheroClient')
        client.roomLeave('defaultRoom')
        resolve(error)
      })
    })
    const { error, response, delta } = await within('the action', action)
    assert.equal(error, null)
    assert.ok(delta >= 0)
    const { saveResp, sizeResp, loadResp, deleteResp } = response.cacheTestResults
    assert.deepEqual([saveResp, sizeResp, deleteResp], [true, 1, true])
    assert.deepEqual([loadResp.key, loadResp.value], ['cacheTest_mykey', 'myValue'])
    assert.equal(loadResp.expireTimestamp - loadResp.createdAt, 5000)
    assert.equal(await within('joining', joined), null)

    const heard = await listener.hear()
    assert.deepEqual(
      [heard.message, heard.room, heard.from, heard.context],
      ['Hello from the actionheroClient', 'defaultRoom', client.id, 'user'])
    assert.ok(Math.abs(Date.now() - heard.sentAt) < 60_000)

    const ended = emitted(client, 'end')
    await within('disconnecting', new Promise((resolve) => client.disconnect(resolve)))
    await ended
    assert.deepEqual(printed, { welcome: [WELCOME], say: [], error: [], end: 1, timeout: [] })
    assert.equal((await listener.ask('roomView defaultRoom')).data.membersCount, 1)
    await listener.quit()
  })

  it('hears what others say', async () => {
    const speaker = await RawClient.connect(server)
    await speaker.ask('roomAdd defaultRoom')
    const client = new ActionheroClient()
    await within('the connection', new Promise((resolve) => {
      client.connect({ host: server.host, port: server.port, timeout: DEADLINE_MS }, resolve)
    }))
    await within('joining', new Promise((resolve) => client.roomAdd('defaultRoom', resolve)))
    const said = emitted(client, 'say')
    await speaker.ask('say defaultRoom hooray!')
    const [message] = await said
    assert.deepEqual([message.message, message.from], ['hooray!', await speaker.id()])
    const ended = emitted(client, 'end')
    client.disconnect()
    await ended
    await speaker.quit()
  })

  it('has the dialogue that the documentation shows, with the differences that are named here', async () => {
    const client = await RawClient.connect(server)
    // Nobody is in a room by default, so no "room".
    assert.deepEqual(client.welcome, { welcome: WELCOME, context: 'api' })

    const details = await client.ask('detailsView')
    const { id, remotePort, connectedAt } = details.data
    assert.deepEqual(details, {
      status: 'OK',
      context: 'response',
      // "rooms" instead of "room", and "fingerprint".
      data: {
        id, fingerprint: null, remoteIP: '127.0.0.1', remotePort, params: {}, connectedAt, rooms: [], totalActions: 0, pendingActions: 0
      },
      messageCount: 1
    })
    const random = await client.ask('randomNumber')
    assert.deepEqual(random, { randomNumber: random.randomNumber, context: 'response', messageCount: 2 })
    assert.deepEqual(await client.ask('cacheTest'), {
      error: 'Error: key is a required parameter for this action', context: 'response', messageCount: 3
    })
    for (const [line, messageCount] of [['paramAdd key=myKey', 4], ['paramAdd value=myValue', 5]]) {
      assert.deepEqual(await client.ask(line), { status: 'OK', context: 'response', data: null, messageCount })
    }
    assert.deepEqual(await client.ask('paramsView'), {
      status: 'OK', context: 'response', data: { action: 'cacheTest', key: 'myKey', value: 'myValue' }, messageCount: 6
    })
    const { cacheTestResults, ...rest } = await client.ask('cacheTest')
    assert.deepEqual(rest, { context: 'response', messageCount: 7 })
    assert.equal(cacheTestResults.loadResp.key, 'cacheTest_myKey')
    assert.equal(cacheTestResults.loadResp.value, 'myValue')
    // The documentation has a slip of the pen here: a room that does not exist, answered as if it did, without a number.
    assert.deepEqual(await client.ask('roomAdd default Room'), {
      status: 'room does not exist', context: 'response', data: false, messageCount: 8
    })
    assert.deepEqual(await client.ask('roomAdd defaultRoom'), {
      status: 'OK', context: 'response', data: true, messageCount: 9
    })
    assert.deepEqual(await client.ask('say defaultRoom hooray!'), {
      status: 'OK', context: 'response', data: null, messageCount: 10
    })
    assert.deepEqual(await client.quit(), { status: 'Bye!', context: 'api' })
  })
})
