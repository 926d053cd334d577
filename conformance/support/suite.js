// What every client must be able to do, on a server of one compat level.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { ADMIN, commandConnection } from './admin.js'
import { open } from './clients.js'
import { within } from './deadline.js'
import { Inbox } from './inbox.js'
import { FILES, startServer } from './server.js'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const WELCOME = 'Hello! Welcome to the actionhero api'

/** What differs between compat levels. */
const FIRST_GENERATIONS = {
  action: (text) => `Error: ${text}`,
  room: (text) => text,
  file: 'Sorry, that file is not found :(',
  goodbye: 'Bye!',
  echoes: false
}
const LEVELS = {
  auto: FIRST_GENERATIONS,
  classic: FIRST_GENERATIONS,
  modern: {
    action: (text) => text,
    room: (text, room) => `${text} (${room})`,
    file: 'that file is not found',
    goodbye: 'Bye',
    echoes: true
  }
}

/** Describes the suite for these clients, all connected to one server at the same time. */
export function suite (compat, kinds) {
  describe(`compat ${compat}`, () => {
    let server
    const opened = new Map()

    before(async () => {
      server = await startServer({ ...ADMIN, 'servers.socket.compat': compat })
      for (const kind of kinds) opened.set(kind, await open(kind, server))
    })

    after(async () => {
      for (const client of opened.values()) await client.close()
      await server?.stop()
    })

    for (const kind of kinds) {
      describe(kind.name, () => judge(kind, LEVELS[compat], compat, () => server, () => opened.get(kind)))
    }
  })
}

function judge (kind, level, compat, server, client) {
  /** Calls and expects success. */
  async function done (method, ...words) {
    const { error, data, delta } = await client().call(method, ...words)
    assert.equal(error, null, `${method} ${words}: ${error}`)
    assert.ok(delta >= 0)
    assert.equal(data.context, 'response')
    return data
  }

  /** Calls and expects an error of this text, given as an error. */
  async function refused (text, method, ...words) {
    const { error, data } = await client().call(method, ...words)
    assert.ok(error instanceof Error, `${method} ${words} was not refused: ${JSON.stringify(data)}`)
    assert.equal(error.message, text)
    assert.equal(data.context, 'response')
    return data
  }

  /** The next message of a room. */
  async function heard () {
    const { message, from } = await client().hear()
    return [message, from]
  }

  /** The params of the connection, less the one that the client adds by itself. */
  async function params () {
    const { data } = await done('paramsView')
    if (kind.numbersBy === 'messageId') assert.match(data.messageId, UUID)
    delete data.messageId
    return data
  }

  it('is welcomed and learns who it is', () => {
    assert.equal(client().welcome, WELCOME)
    const details = kind.name === 'actionhero-client 4.0.1' ? client().client.details : client().client.details.data
    assert.match(details.id, UUID)
    assert.equal(details.id, client().client.id)
    assert.equal(details.remoteIP, '127.0.0.1')
    assert.equal(details.remotePort, client().client.connection.localPort)
    assert.deepEqual(details.rooms, [])
    assert.deepEqual([details.totalActions, details.pendingActions], [0, 0])
    assert.ok(Math.abs(Date.now() - details.connectedAt) < 60_000)
    assert.equal(details.fingerprint, compat === 'modern' ? details.id : null)
  })

  it('sees its details as they are now', async () => {
    const before = (await done('detailsView')).data
    await done('action', 'randomNumber')
    const now = (await done('detailsView')).data
    assert.equal(now.id, client().client.id)
    assert.equal(now.totalActions, before.totalActions + 1)
    assert.equal(now.pendingActions, 0)
  })

  it('keeps, shows and forgets params', async () => {
    await done('paramsDelete')
    assert.deepEqual(await params(), {})
    assert.equal((await done('paramAdd', 'key', 'ключ')).status, 'OK')
    await done('paramAdd', 'value', 'two words')
    assert.equal((await done('paramView', 'key')).data, 'ключ')
    assert.deepEqual(await params(), { key: 'ключ', value: 'two' })
    await done('paramAdd', 'key', 'other')
    assert.equal((await done('paramView', 'key')).data, 'other')
    await done('paramDelete', 'key')
    assert.equal((await done('paramView', 'key')).data, undefined)
    await done('paramDelete', 'never-set')
    assert.deepEqual(await params(), { value: 'two' })
    await done('paramsDelete')
    assert.deepEqual(await params(), {})
  })

  it('runs actions with the params it has set', async () => {
    await done('paramAdd', 'key', 'mine')
    await done('paramAdd', 'value', 'kept')
    const { cacheTestResults } = await done('action', 'cacheTest')
    assert.deepEqual(cacheTestResults.loadResp.value, 'kept')
    assert.equal((await params()).action, 'cacheTest')
    await done('paramsDelete')
  })

  it('runs actions with params of their own', async () => {
    await done('paramAdd', 'left', 'over')
    const { cacheTestResults } = await done('actionWithParams', 'cacheTest', { key: 'mykey', value: { deep: [1, 'é'] } })
    assert.deepEqual([cacheTestResults.saveResp, cacheTestResults.deleteResp], [true, true])
    assert.equal(cacheTestResults.loadResp.key, 'cacheTest_mykey')
    assert.deepEqual(cacheTestResults.loadResp.value, { deep: [1, 'é'] })
    // They have replaced what was there.
    assert.deepEqual(await params(), { key: 'mykey', value: { deep: [1, 'é'] }, action: 'cacheTest' })
    await done('paramsDelete')
  })

  it('runs every default action', async () => {
    const { randomNumber } = await done('action', 'randomNumber')
    assert.ok(randomNumber >= 0 && randomNumber < 1)
    const status = await done('action', 'status')
    assert.ok(status.id.length > 0 && status.uptime >= 0)
    const slept = await done('actionWithParams', 'sleepTest', { sleepDuration: 10 })
    assert.equal(slept.sleepDuration, 10)
    assert.ok(slept.sleepDelta >= 10 && slept.sleepEnded >= slept.sleepStarted)
    const { documentation } = await done('action', 'showDocumentation')
    assert.equal(documentation.cacheTest[1].name, 'cacheTest')
    await done('paramsDelete')
  })

  it('is told why an action failed', async () => {
    await done('paramsDelete')
    await refused(level.action('key is a required parameter for this action'), 'action', 'cacheTest')
    await refused(
      level.action('value is a required parameter for this action'), 'actionWithParams', 'cacheTest', { key: 'k' })
    await done('paramsDelete')
  })

  it('is told that there is no such action', async () => {
    const text = level.action('unknown action or invalid apiVersion')
    await refused(text, 'action', 'noSuchAction')
    await refused(text, 'actionWithParams', 'noSuchAction', {})
    await refused(text, 'actionWithParams', 'randomNumber', { apiVersion: 99 })
    await done('paramsDelete')
  })

  it('joins, sees, speaks in and leaves a room', async () => {
    const room = 'defaultRoom'
    const { id } = client().client
    await refused(level.room('connection not in this room', room), 'roomLeave', room)
    await refused(level.room('connection not in this room', room), 'say', room, 'outside')
    await refused(
      compat === 'modern' ? `connection not in this room (${room})` : `not member of room ${room}`, 'roomView', room)
    assert.equal((await done('roomAdd', room)).data, true)
    await refused(level.room('connection already in this room', room), 'roomAdd', room)
    await refused('room does not exist', 'roomAdd', 'noSuchRoom')
    const { data: status } = await done('roomView', room)
    assert.deepEqual([status.room, status.membersCount, Object.keys(status.members)], [room, 1, [id]])
    assert.equal(status.members[id].id, id)
    assert.ok(Math.abs(Date.now() - status.members[id].joinedAt) < 60_000)
    assert.deepEqual((await done('detailsView')).data.rooms, [room])
    assert.equal((await done('say', room, 'anybody here?')).status, 'OK')
    if (level.echoes) assert.deepEqual(await heard(), ['anybody here?', id])
    assert.equal((await done('roomLeave', room)).data, true)
    assert.deepEqual((await done('detailsView')).data.rooms, [])
  })

  if (kind.hasDocumentation) {
    it('reads the documentation', async () => {
      const { data } = await done('documentation')
      assert.deepEqual(Object.keys(data).sort(), ['cacheTest', 'randomNumber', 'showDocumentation', 'sleepTest', 'status'])
      assert.equal(data.cacheTest[1].name, 'cacheTest')
    })
  }

  it('is told that there is no such file', async () => {
    if (kind.answersFile) return await refused(level.file, 'file', 'no-such-file')
    // Its `file` gives nothing to its caller; the answer is an event.
    const answer = new Promise((resolve) => {
      client().client.on('data', (line) => line.error && resolve(line.error))
    })
    await client().call('file', 'no-such-file')
    assert.equal(await within('the answer', answer), level.file)
    await done('paramsDelete')
  })

  it('receives the bytes of a file', async () => {
    // No generation of clients settles its own `file` call, since a file has no number: see README.md. So this is a
    // connection of its own, which looks at what arrives.
    for (const [name, content] of Object.entries(FILES)) {
      const reader = await open(kind, server(), { timeout: DEADLINE_OF_A_FILE_MS })
      let all = ''
      const arrived = new Promise((resolve) => reader.client.on('rawData', (text) => {
        all += text
        if (all.endsWith(content)) resolve()
      }))
      const settled = kind.answersFile
        ? reader.call('file', name).then(({ error }) => assert.match(error.message, /Timeout/))
        : assert.rejects(reader.client.awaitServerResponse(`file ${name}`), /Timeout/)
      await Promise.all([within(`the bytes of ${name}`, arrived), settled])
      await reader.close()
    }
  })

  it('has many requests under way and each gets its own answer', async () => {
    const sleep = (sleepDuration) => client().call('actionWithParams', 'sleepTest', { sleepDuration })
    const order = []
    const asked = [300, 30, 20, 10].map((duration) => [duration, sleep(duration)])
    asked.push(['random', client().call('action', 'randomNumber')])
    for (const [name, answer] of asked) answer.then(() => order.push(name))
    for (const [name, answer] of asked) {
      const { error, data } = await answer
      assert.equal(error, null)
      if (name === 'random') assert.ok(data.randomNumber < 1)
      else assert.equal(data.sleepDuration, name)
    }
    assert.equal(order.length, 5)
    // The last client sends one request at a time, so for it nothing can overtake.
    const [first, last] = kind.numbersBy === 'messageCount' ? ['random', 300] : [300, 'random']
    assert.ok(order.indexOf(first) < order.indexOf(last), `answered in this order: ${order}`)
    await done('paramsDelete')
  })

  if (kind.numbersBy === 'messageCount') {
    it('pipelines verbs and each gets its own answer, in order', async () => {
      const order = []
      const asked = []
      for (let n = 0; n < 20; n++) {
        asked.push(client().call('paramAdd', `p${n}`, `v${n}`))
        asked.push(client().call('paramView', `p${n}`))
      }
      for (const [n, answer] of asked.entries()) answer.then(() => order.push(n))
      for (const [n, answer] of asked.entries()) {
        const { error, data } = await answer
        assert.equal(error, null)
        if (n % 2 === 1) assert.equal(data.data, `v${(n - 1) / 2}`)
      }
      assert.deepEqual(order, [...asked.keys()])
      await done('paramsDelete')
    })

    it('joins, speaks and leaves without waiting in between', async () => {
      const room = 'defaultRoom'
        const asked = [['roomAdd'], ['say', 'hello'], ['roomLeave'], ['say', 'too late']]
        .map(([verb, ...words]) => client().call(verb, room, ...words))
      const errors = []
      for (const answer of asked) errors.push((await answer).error?.message ?? null)
      assert.deepEqual(errors, [null, null, null, level.room('connection not in this room', room)])
    })

    it('is refused the sixth pending action and gets the others', async () => {
      const asked = []
      for (let n = 0; n < 5; n++) asked.push(client().call('actionWithParams', 'sleepTest', { sleepDuration: 300 }))
      const sixth = await client().call('action', 'randomNumber')
      assert.equal(sixth.error?.message, level.action('you have too many pending requests'))
      for (const answer of asked) assert.equal((await answer).data.sleepDuration, 300)
      await done('paramsDelete')
    })
  }

  it('does what the server asks for while it asks the server, once it has said that it would', async () => {
    const commands = new Inbox('a command')
    client().client.on('data', (line) => line.context === 'command' && commands.put(line))
    const params = { p0: 'v0', p1: 'v1', p2: 'v2' }
    for (const [key, value] of Object.entries(params)) await done('paramAdd', key, value)
    const view = async ([key, value]) => assert.equal((await done('paramView', key)).data, value)
    const viewAll = () => Promise.all(Object.entries(params).map(view))

    // No generation knows these verbs, but what `action` is given is sent as it is.
    assert.equal((await done('action', 'setCustomClientData {"commands":["sum"]}')).data, true)
    const outcome = commandConnection(server(), client().client.id, { key: 'sum', data: [1, 2, 3] })
    let hasArrived = false
    const arrival = commands.next().finally(() => { hasArrived = true })
    while (!hasArrived) await viewAll()
    const { _id, key, data } = await arrival
    assert.deepEqual([key, data], ['sum', [1, 2, 3]])
    const before = viewAll()
    const reply = done('action', `replyClientCommand ${_id} {"success":true,"sum":6}`)
    await Promise.all([before, viewAll()])
    assert.equal((await reply).data, true)
    const { status, body } = await outcome
    assert.equal(status, 200, JSON.stringify(body))
    assert.deepEqual([body.id, body.reply], [_id, { success: true, sum: 6 }])
    assert.deepEqual(commands.rest(), [])
    await done('paramsDelete')
  })

  it('is told goodbye', async () => {
    const leaver = await open(kind, server())
    const last = new Promise((resolve) => leaver.client.on('data', (line) => line.context === 'api' && resolve(line)))
    await leaver.close()
    assert.deepEqual(await within('the goodbye', last), { status: level.goodbye, context: 'api' })
  })

  it('had nothing to complain about, and heard nothing that nobody said', () => {
    assert.deepEqual(client().complaints, [])
    assert.deepEqual(client().said, [])
  })
}

/** How long a client waits for the answer to `file` that no server gives. */
const DEADLINE_OF_A_FILE_MS = 300
