// ActionHero's own browser clients of four generations, and our replacement of them, all on one server that was told nothing about them.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isDeepStrictEqual } from 'node:util'

import { ADMIN, commandConnection } from './support/admin.js'
import { emitted, within } from './support/deadline.js'
import { GENERATIONS, Page, REPLACEMENT } from './support/generations.js'
import { Inbox } from './support/inbox.js'
import { RawClient } from './support/raw.js'
import { FILES, startServer } from './support/server.js'

const ALL = [...GENERATIONS, REPLACEMENT]
const ROOM = 'defaultRoom'
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

describe('a server of all generations', () => {
  let server
  const pages = new Map()

  before(async () => {
    server = await startServer(ADMIN)
    for (const generation of ALL) {
      const page = new Page(generation, server)
      pages.set(generation, page)
      await page.connect()
    }
  })

  after(async () => {
    const events = [...pages.values()].map((page) => [page.generation.name, ...page.events])
    for (const page of pages.values()) page.close()
    await server?.stop()
    assert.deepEqual(events, ALL.map(({ name }) => [name, 'connected']), 'a connection was lost')
  })

  for (const generation of ALL) {
    describe(generation.name, () => judge(() => pages.get(generation), () => server))
  }

  // That our replacement does so by itself is shown in actionhero-client.test.js.
  for (const generation of GENERATIONS) {
    it(`is obeyed by ${generation.name} while that asks it, once it has said that it would`, () => obey(pages.get(generation), server))
  }

  describe('a room', () => {
    let raw

    before(async () => {
      raw = await RawClient.connect(server)
      assert.equal((await raw.ask(`roomAdd ${ROOM}`)).status, 'OK')
      for (const page of pages.values()) assert.equal((await page.call('roomAdd', ROOM)).status, 'OK')
    })

    after(() => raw?.quit())

    it('is seen alike by every page and over TCP', async () => {
      const ids = [await raw.id(), ...[...pages.values()].map((page) => page.client.id)].sort()
      const views = [await raw.ask(`roomView ${ROOM}`)]
      for (const page of pages.values()) views.push(await page.call('roomView', ROOM))
      for (const { data } of views) {
        assert.equal(data.membersCount, ALL.length + 1)
        assert.deepEqual(Object.keys(data.members).sort(), ids)
      }
    })

    for (const [name, text] of [
      ['words', 'hello  all of you '],
      ['text beyond ASCII', 'привет, 世界, 🦀'],
      ['line separators of JavaScript', 'one\u2028two\u2029three'],
      ['markup, quotes and backslashes', '<b>{"not":"parsed"}</b> \\ "quoted"'],
      ['a long text', 'long '.repeat(1600)]
    ]) {
      it(`carries ${name} from everybody to everybody else, verbatim`, async () => {
        for (const speaker of pages.values()) {
          assert.equal((await speaker.call('say', ROOM, text)).status, 'OK')
          const { message, room, from, context } = await raw.hear()
          assert.deepEqual([message, room, from, context], [text, ROOM, speaker.client.id, 'user'])
          for (const listener of pages.values()) {
            if (listener === speaker) continue
            const { message, from } = await listener.hear()
            assert.deepEqual([message, from], [text, speaker.client.id], listener.generation.name)
          }
        }
        assert.equal((await raw.ask(`say ${ROOM} ${text}`)).status, 'OK')
        const from = await raw.id()
        for (const listener of pages.values()) {
          const heard = await listener.hear()
          assert.deepEqual([heard.message, heard.from], [text, from], listener.generation.name)
        }
      })
    }

    it('gives a page that left nothing more, and nobody heard himself', async () => {
      const [first, ...others] = pages.values()
      assert.equal((await first.call('roomLeave', ROOM)).status, 'OK')
      assert.equal((await raw.ask(`say ${ROOM} without you`)).status, 'OK')
      for (const listener of others) assert.equal((await listener.hear()).message, 'without you')
      await first.call('detailsView')
      for (const page of pages.values()) assert.deepEqual(page.said, [], page.generation.name)
    })
  })
})

function judge (page, server) {
  it('is welcomed and learns who it is', () => {
    const { client, welcome, details: { status, data } } = page()
    assert.equal(welcome, 'Hello! Welcome to the actionhero api')
    assert.equal(status, 'OK')
    assert.match(data.id, UUID)
    assert.equal(data.remoteIP, '127.0.0.1')
    assert.deepEqual(data.rooms, [])
    assert.deepEqual([client.id, client.state], [data.id, 'connected'])
  })

  it('runs actions', async () => {
    const { randomNumber } = await page().call('action', 'randomNumber')
    assert.ok(randomNumber >= 0 && randomNumber < 1)
    const { cacheTestResults } = await page().call('action', 'cacheTest', { key: 'mykey', value: 'vvv' })
    assert.deepEqual([cacheTestResults.saveResp, cacheTestResults.loadResp.value], [true, 'vvv'])
  })

  it('is told why an action fails, and params do not stay', async () => {
    const { error } = await page().call('action', 'cacheTest', { value: 'vvv' })
    assert.equal(error, 'Error: key is a required parameter for this action')
    assert.equal((await page().call('action', 'nope')).error, 'Error: unknown action or invalid apiVersion')
  })

  it('gets every answer to the right place, however they cross', async () => {
    const slow = page().call('action', 'sleepTest', { sleepDuration: 60 })
    const quick = page().call('action', 'sleepTest', { sleepDuration: 20 })
    const verbs = [page().call('detailsView'), page().call('roomView', 'nowhere'), page().call('detailsView')]
    const [{ data: details }, { status }, { data: again }] = await Promise.all(verbs)
    assert.deepEqual([details.id, status, again.id], [page().client.id, 'not member of room nowhere', page().client.id])
    assert.deepEqual([(await slow).sleepDuration, (await quick).sleepDuration], [60, 20])
  })

  it('runs five actions at the same time and no more', async () => {
    const five = Array.from({ length: 5 }, () => page().call('action', 'sleepTest', { sleepDuration: 200 }))
    assert.equal((await page().call('action', 'randomNumber')).error, 'Error: you have too many pending requests')
    for (const answer of await Promise.all(five)) assert.equal(answer.sleepDuration, 200)
  })

  it('reads files', async () => {
    const { error, content, mime, length } = await page().call('file', 'simple.html')
    assert.ok(!error, error)
    assert.deepEqual([content, mime, length], [FILES['simple.html'], 'text/html', Buffer.byteLength(FILES['simple.html'])])
    const missing = await page().call('file', 'missing.html')
    assert.deepEqual([missing.error, missing.content], ['Sorry, that file is not found :(', null])
  })

  it('joins, views and leaves rooms', async () => {
    const { client } = page()
    assert.equal((await page().call('roomAdd', ROOM)).status, 'OK')
    assert.deepEqual((await page().call('detailsView')).data.rooms, [ROOM])
    assert.deepEqual(Object.keys((await page().call('roomView', ROOM)).data.members), [client.id])
    assert.equal((await page().call('roomAdd', 'noSuchRoom')).status, 'room does not exist')
    assert.equal((await page().call('roomLeave', ROOM)).status, 'OK')
    assert.deepEqual((await page().call('detailsView')).data.rooms, [])
    assert.equal((await page().call('roomLeave', ROOM)).status, 'connection not in this room')
    assert.equal((await page().call('say', ROOM, 'hello')).status, 'connection not in this room')
    // The first generation goes on wanting a room that it could not join.
    client.rooms = []
  })

  it('reads the documentation', async () => {
    const { data } = await page().call('documentation')
    assert.equal(data.randomNumber[1].name, 'randomNumber')
  })

  it('runs actions over HTTP before it is connected', async () => {
    const early = new Page(page().generation, server())
    const { randomNumber } = await early.call('action', 'randomNumber')
    assert.ok(randomNumber >= 0 && randomNumber < 1)
    const { cacheTestResults } = await early.call('action', 'cacheTest', { key: 'overHttp', value: 'vvv' })
    assert.equal(cacheTestResults.loadResp.key, 'cacheTest_overHttp')
    assert.deepEqual([early.sent, early.received], [[], []])
  })
}

/** Has the page do what the server asks for, in the middle of its own requests. */
async function obey (page, server) {
  const commands = new Inbox('a command')
  page.client.on('message', (message) => message.context === 'command' && commands.put(message))
  const view = async (room) => {
    const { status, error } = await page.call('roomView', room)
    assert.ok((error ?? status).includes(room), `not about ${room}: ${error ?? status}`)
  }
  const viewAll = () => Promise.all(['here', 'there', 'nowhere'].map(view))

  // No generation knows these verbs, but `send` takes any.
  const data = { commands: ['sum'] }
  assert.deepEqual((await page.call('send', { event: 'setCustomClientData', data })).data, true)
  const outcome = commandConnection(server, page.client.id, { key: 'sum', data: [1, 2, 3] })
  let hasArrived = false
  const arrival = commands.next().finally(() => { hasArrived = true })
  while (!hasArrived) await viewAll()
  const command = await arrival
  assert.deepEqual([command.key, command.data], ['sum', [1, 2, 3]])
  const before = viewAll()
  const reply = page.call('send', { event: 'replyClientCommand', id: command._id, reply: { success: true, sum: 6 } })
  await Promise.all([before, viewAll()])
  assert.equal((await reply).data, true)
  const { status, body } = await outcome
  assert.equal(status, 200, JSON.stringify(body))
  assert.deepEqual([body.id, body.reply], [command._id, { success: true, sum: 6 }])
  assert.deepEqual(commands.rest(), [])
}

for (const [compat, pages, texts] of [
  ['classic', GENERATIONS.slice(0, 3), {
    action: 'Error: key is a required parameter for this action',
    room: { status: 'connection not in this room' },
    file: 'Sorry, that file is not found :(',
    echoes: false
  }],
  ['modern', [GENERATIONS[3], REPLACEMENT], {
    action: 'key is a required parameter for this action',
    room: { status: 'Error: connection not in this room (nowhere)', error: 'Error: connection not in this room (nowhere)' },
    file: 'that file is not found',
    echoes: true
  }]
]) {
  describe(`a ${compat} server`, () => {
    for (const generation of pages) {
      it(`serves ${generation.name}`, async (test) => {
        const server = await startServer({ ...ADMIN, 'servers.websocket.compat': compat })
        test.after(() => server.kill())
        const page = await new Page(generation, server).connect()
        test.after(() => page.close())
        assert.equal((await page.call('action', 'cacheTest', { key: 'mykey', value: 'vvv' })).cacheTestResults.loadResp.value, 'vvv')
        assert.equal((await page.call('action', 'cacheTest', { value: 'vvv' })).error, texts.action)
        const { status, error } = await page.call('say', 'nowhere', 'hello')
        assert.deepEqual({ status, ...error && { error } }, texts.room)
        assert.equal((await page.call('file', 'missing.html')).error, texts.file)
        assert.equal((await page.call('roomAdd', ROOM)).status, 'OK')
        assert.equal((await page.call('say', ROOM, 'hello')).status, 'OK')
        assert.equal((await page.call('roomLeave', ROOM)).status, 'OK')
        assert.deepEqual(page.said.map(({ message }) => message), texts.echoes ? ['hello'] : [])
        if (generation !== REPLACEMENT) await obey(page, server)
        page.close()
        await server.stop()
      })
    }
  })
}

for (const generation of ALL) {
  describe(`${generation.name}, when the server is started again`, () => {
    it(`comes back by itself${generation.rejoins ? ', and so do its rooms' : ''}`, async (test) => {
      const first = await startServer()
      test.after(() => first.kill())
      const page = await new Page(generation, first).connect()
      test.after(() => page.close())
      assert.equal((await page.call('roomAdd', ROOM)).status, 'OK')
      const before = page.client.id
      const gone = emitted(page.client, 'disconnected')
      await first.stop()
      await gone

      const second = await startServer({ 'servers.web.port': first.web.port })
      test.after(() => second.kill())
      await within('the welcome', new Promise((resolve) => page.client.once('welcome', resolve)))
      // The first generation asks who it is before it takes its rooms again.
      const rooms = generation.rejoins ? [ROOM] : []
      const details = await within(`rooms ${rooms}`, until(() => page.call('detailsView'), ({ data }) => isDeepStrictEqual(data.rooms, rooms)))
      assert.notEqual(details.data.id, before)
      assert.ok((await page.call('action', 'randomNumber')).randomNumber < 1)
      await second.stop()
    })
  })
}

/** Asks until the answer is as it should be. */
async function until (ask, satisfied) {
  let answer
  do answer = await ask()
  while (!satisfied(answer))
  return answer
}
