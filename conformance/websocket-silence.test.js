// Time is the subject here: older clients ping the server, later ones wait for its pings, and each of them gives up within
// 45 seconds when the other side does not do what it expects.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setTimeout as passed } from 'node:timers/promises'

import { GENERATIONS, Page, REPLACEMENT } from './support/generations.js'
import { startServer } from './support/server.js'

const SILENCE_MS = 70_000

it('every generation stays connected through 70 seconds in which nobody says anything', async (test) => {
  const server = await startServer()
  const pages = []
  test.after(() => {
    for (const page of pages) page.close()
    server.kill()
  })
  for (const generation of [...GENERATIONS, REPLACEMENT]) pages.push(await new Page(generation, server).connect())
  await passed(SILENCE_MS)
  for (const page of pages) {
    const { generation: { name, pings }, client, events } = page
    assert.deepEqual(events, ['connected'], name)
    const ours = page.sent.filter((text) => text.startsWith('"primus::')).map(kind)
    const theirs = page.received.filter((text) => text.startsWith('"primus::')).map(kind)
    assert.deepEqual([ours, theirs], pings ? [['ping', 'ping'], ['pong', 'pong']] : [['pong', 'pong'], ['ping', 'ping']], name)
    assert.equal((await page.call('detailsView')).data.id, client.id)
  }
  for (const page of pages) page.close()
  await server.stop()
})

/** `ping` or `pong`. */
function kind (control) {
  return control.split('::')[1]
}
