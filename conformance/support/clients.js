// The pinned clients behind one small surface, so that one suite judges them all.
//
// Nothing here changes what a client sends or how it reads: `call` is the client's own method, as a promise of
// `{error, data, delta}`, which is what the two later clients give by themselves and the first gives to its callback.

import Client4 from 'actionhero-client-4'
import Client6 from 'actionhero-client-6'
import nodeClient8 from 'actionhero-node-client'

import { DEADLINE_MS, emitted, within } from './deadline.js'

export const CLIENTS = [
  {
    name: 'actionhero-client 4.0.1',
    make: () => new Client4(),
    connect: (client, params) => new Promise((resolve) => client.connect(params, resolve)),
    call: (client, method, ...words) => new Promise((resolve) => {
      client[method](...words, (error, data, delta) => resolve({ error, data, delta }))
    }),
    disconnect: (client) => new Promise((resolve) => client.disconnect(resolve)),
    /** Answers are matched by `messageCount`, so any number of requests can be under way. */
    numbersBy: 'messageCount',
    /** `file` takes a callback, so its answer can be waited for. */
    answersFile: true,
    hasDocumentation: true
  },
  {
    name: 'actionhero-client 6.0.0',
    make: () => new Client6(),
    connect: (client, params) => client.connect(params),
    call: settled,
    disconnect: (client) => client.disconnect(),
    numbersBy: 'messageCount',
    answersFile: false,
    hasDocumentation: true
  },
  {
    name: 'actionhero-node-client 8.0.1',
    make: () => new nodeClient8.default(),
    connect: (client, params) => client.connect(params),
    call: settled,
    disconnect: (client) => client.disconnect(),
    /** It sends `paramAdd messageId=UUID` before every request, and one request at a time. */
    numbersBy: 'messageId',
    answersFile: false,
    hasDocumentation: false
  }
]

/** The later clients' promises. Their `detailsView` alone gives the bare line, and never an error. */
async function settled (client, method, ...words) {
  const started = Date.now()
  const answer = await client[method](...words)
  return method === 'detailsView' ? { error: null, data: answer, delta: Date.now() - started } : answer
}

/** A client that is connected to `server`. */
export async function open (kind, server, params = {}) {
  const client = kind.make()
  const opened = {
    kind,
    client,
    /** Everything that the client complained about: connection errors, lines it could not read, requests in vain. */
    complaints: [],
    said: [],
    call: (method, ...words) => within(`${method} ${words.join(' ')}`, kind.call(client, method, ...words)),
    /** The next message from a room. */
    async hear () {
      if (opened.said.length === 0) await emitted(client, 'heard')
      return opened.said.shift()
    },
    /** Leaves, and waits for the server's side to end. */
    async close () {
      const ended = emitted(client, 'end')
      await kind.disconnect(client)
      await ended
    }
  }
  client.on('error', (error) => opened.complaints.push(error))
  client.on('timeout', (error, request) => opened.complaints.push(`timeout: ${request ?? error}`))
  client.on('say', (message) => {
    opened.said.push(message)
    client.emit('heard')
  })
  client.on('welcome', (welcome) => { opened.welcome = welcome })
  const connected = kind.connect(client, {
    host: server.host, port: server.port, timeout: DEADLINE_MS, reconnectTimeout: 20, reconnectAttempts: 1000, ...params
  })
  await within('the connection', connected)
  return opened
}
