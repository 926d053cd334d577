// What the clients go through when the server stops, and when it comes back.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

import { CLIENTS, open } from './support/clients.js'
import { emitted, within } from './support/deadline.js'
import { startServer } from './support/server.js'

for (const kind of CLIENTS) {
  describe(kind.name, () => {
    it('comes back by itself after a restart, as somebody new', async () => {
      const first = await startServer()
      const { client, call, close } = await open(kind, first)
      assert.equal((await call('roomAdd', 'defaultRoom')).error, null)
      const before = client.id
      const ended = emitted(client, 'end')
      const back = new Promise((resolve) => client.once('connected', resolve))
      await first.stop()
      await ended

      const second = await startServer({ 'servers.socket.port': first.port })
      await within('the connection', back)
      assert.notEqual(client.id, before)
      const { data: details } = await call('detailsView')
      assert.deepEqual(details.data.rooms, [])
      assert.equal((await call('roomAdd', 'defaultRoom')).error, null)
      assert.ok((await call('action', 'randomNumber')).data.randomNumber < 1)
      await close()
      await second.stop()
    })

    it('gets the answer of a pending action before a planned stop ends the connection', async () => {
      const server = await startServer()
      const { client, call, complaints } = await open(kind, server, { reconnectTimeout: 0 })
      const goodbye = new Promise((resolve) => client.on('data', (line) => line.context === 'api' && resolve(line)))
      const ended = emitted(client, 'end')
      const answer = call('actionWithParams', 'sleepTest', { sleepDuration: 500 })
      // The server has the request once it answers a later one of somebody else.
      const witness = await open(kind, server)
      await until(async () => (await witness.call('action', 'status')).data.stats.connections === 2)
      await witness.close()
      server.terminate()
      const { error, data } = await answer
      assert.deepEqual([error, data.sleepDuration], [null, 500])
      assert.deepEqual(await within('the goodbye', goodbye), { status: 'Bye!', context: 'api' })
      await ended
      assert.deepEqual(complaints, [])
      await server.stop()
    })
  })
}

/** Asks until it is so. */
async function until (condition) {
  while (!await condition()) { /* every turn waits for an answer */ }
}
