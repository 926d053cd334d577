// A room whose members are of every generation, and one that is no library at all.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { CLIENTS, open } from './support/clients.js'
import { RawClient } from './support/raw.js'
import { startServer } from './support/server.js'

const ROOM = 'defaultRoom'

describe('a room of all generations', () => {
  let server
  let raw
  const members = []

  before(async () => {
    server = await startServer()
    for (const kind of CLIENTS) members.push(await open(kind, server))
    for (const member of members) assert.equal((await member.call('roomAdd', ROOM)).error, null)
    raw = await RawClient.connect(server)
    assert.equal((await raw.ask(`roomAdd ${ROOM}`)).status, 'OK')
  })

  after(async () => {
    const rest = members.map(({ kind, complaints, said }) => [kind.name, [...complaints], [...said]])
    for (const member of members) await member.close()
    await raw?.quit()
    await server?.stop()
    assert.deepEqual(rest, rest.map(([name]) => [name, [], []]), 'somebody complained, or heard more than was said')
  })

  it('is seen alike by every member', async () => {
    const ids = [...members.map((member) => member.client.id), await raw.id()].sort()
    const views = [await raw.ask(`roomView ${ROOM}`)]
    for (const member of members) views.push((await member.call('roomView', ROOM)).data)
    for (const { data } of views) {
      assert.equal(data.membersCount, 4)
      assert.deepEqual(Object.keys(data.members).sort(), ids)
    }
  })

  for (const [name, text] of [
    ['words', 'hello  all of you '],
    ['text beyond ASCII', 'привет, 世界, 🦀'],
    ['quotes and backslashes', '{"not":"parsed"} \\ "quoted"'],
    ['a long text', 'long '.repeat(1600)]
  ]) {
    it(`carries ${name} from everybody to everybody else, verbatim`, async () => {
      for (const speaker of members) {
        assert.equal((await speaker.call('say', ROOM, text)).error, null)
        const heard = await raw.hear()
        const { message, room, from, context } = heard
        assert.deepEqual([message, room, from, context], [text, ROOM, speaker.client.id, 'user'])
        assert.equal(heard.messageCount ?? heard.messageId, undefined)
        for (const listener of members) {
          if (listener === speaker) continue
          const { message, from } = await listener.hear()
          assert.deepEqual([message, from], [text, speaker.client.id], listener.kind.name)
        }
      }
      assert.equal((await raw.ask(`say ${ROOM} ${text}`)).status, 'OK')
      const from = await raw.id()
      for (const listener of members) {
        const heard = await listener.hear()
        assert.deepEqual([heard.message, heard.from], [text, from], listener.kind.name)
      }
    })
  }

  it('keeps the order of what one member says, and gives everybody all of it', async () => {
    const texts = Array.from({ length: 20 }, (_, n) => `message ${n}`)
    raw.askAll(texts.map((text) => `say ${ROOM} ${text}`))
    for (const listener of members) {
      const heard = []
      while (heard.length < texts.length) heard.push((await listener.hear()).message)
      assert.deepEqual(heard, texts, listener.kind.name)
    }
  })

  it('gives answers and room messages that cross each other to the right place', async () => {
    const before = members.map((member) => member.call('actionWithParams', 'sleepTest', { sleepDuration: 50 }))
    const texts = Array.from({ length: 5 }, (_, n) => `while you sleep ${n}`)
    raw.askAll(texts.map((text) => `say ${ROOM} ${text}`))
    for (const answer of before) {
      const { error, data } = await answer
      assert.deepEqual([error, data.sleepDuration], [null, 50])
    }
    for (const listener of members) {
      for (const text of texts) assert.equal((await listener.hear()).message, text)
    }
  })

  it('is left by who disconnects, at once', async () => {
    const guest = await open(CLIENTS[0], server)
    assert.equal((await guest.call('roomAdd', ROOM)).error, null)
    assert.ok((await raw.ask(`roomView ${ROOM}`)).data.members[guest.client.id])
    await guest.close()
    const { data } = await raw.ask(`roomView ${ROOM}`)
    assert.equal(data.membersCount, 4)
    assert.equal(data.members[guest.client.id], undefined)
  })
})

describe('a room that echoes', () => {
  it('lets every generation hear itself', async () => {
    const server = await startServer({ 'rooms.echo_to_sender': true })
    for (const kind of CLIENTS) {
      const member = await open(kind, server)
      await member.call('roomAdd', ROOM)
      assert.equal((await member.call('say', ROOM, 'echo')).error, null)
      const { message, from } = await member.hear()
      assert.deepEqual([message, from], ['echo', member.client.id])
      await member.close()
    }
    await server.stop()
  })
})
