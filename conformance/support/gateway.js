// A server with an application, and a client of its gateway that knows nothing but WebSockets and JSON.

import assert from 'node:assert/strict'
import zlib from 'node:zlib'

import WebSocket from 'ws'

import { within } from './deadline.js'
import { Inbox } from './inbox.js'
import { startServer } from './server.js'

export const ID = '822865770504519700'
export const KEY = '3f0c5a9e'
export const SECRET = 'correct-horse'

/** Another application, without a secret. */
export const OPEN_ID = '100200300'
export const OPEN_KEY = '77aa'

const APPLICATIONS = `[
  { id = "${ID}", public_key = "${KEY}", secret = "${SECRET}" },
  { id = "${OPEN_ID}", public_key = "${OPEN_KEY}", allow_development = false },
]`.replaceAll('\n', ' ')

/** Starts a server that knows two applications. */
export function startGateway (settings = {}) {
  return startServer({ 'gateway.applications': APPLICATIONS, ...settings })
}

/** What the document has a client send to register, and the secret of this application. */
export function registration (more = {}) {
  return { type: 1, d: { public_key: KEY, secret: SECRET, shard_in: 0, flags: 0, ...more } }
}

/** What the document has a client send to resume. */
export function resumption (session, more = {}) {
  return { type: 5, d: { public_key: KEY, secret: SECRET, session_id: session, shard_in: 0, flags: 0, ...more } }
}

/** The answer to a ping, to the letter of the document. */
export const PONG = { type: 3, service: 'gateway', event: 'GATEWAY_PING', data: {} }

/** The refusal of a resume, to the letter of the document. */
export const INVALID = {
  type: 1,
  service: 'gateway',
  event: 'GATEWAY_INVALID',
  data: { session_id: null, application_bot: null, shards_config: [], shards_stats: [] }
}

/** The error with this code, as an answer to a message of type `request`. */
export function complaint (code, reason, request = null, more = {}) {
  return {
    type: 2,
    service: 'gateway',
    event: 'GATEWAY_ERROR',
    possible_error: true,
    rate_limit: [4008, 4024, 4025].includes(code),
    data: { code, reason, request_type: request, retry_after_ms: null, ...more }
  }
}

/** Publishes an event for the first application, and gives `{status, body}`. */
export async function publish (server, event, data, more = {}) {
  return await post(server, { event, data, ...more })
}

export async function post (server, body, headers = { identification: ID, secret: SECRET }) {
  const request = fetch(`${server.web.origin}/gateway/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body)
  })
  const answer = await within('the answer to an event', request)
  return { status: answer.status, body: await answer.json() }
}

export class Shard {
  /** Connects to a server. `read` turns a frame into text, or a promise of it; texts are texts if it is not given. */
  static async connect (server, { path = '/gateway', headers = {}, read = plain } = {}) {
    const shard = new Shard()
    shard.messages = new Inbox('a message')
    shard.socket = new WebSocket(`ws://${server.web.host}:${server.web.port}${path}`, { headers, perMessageDeflate: false })
    shard.frames = []
    shard.socket.on('message', (data, isBinary) => {
      shard.frames.push({ data, isBinary })
      for (const text of read(data, isBinary)) shard.messages.put(JSON.parse(text))
    })
    shard.closed = new Promise((resolve) => shard.socket.on('close', resolve))
    await within('the upgrade', new Promise((resolve, reject) => {
      shard.socket.on('open', resolve)
      shard.socket.on('error', reject)
    }))
    return shard
  }

  /** Sends a message. */
  say (message) {
    this.socket.send(JSON.stringify(message))
  }

  /** The next message. */
  hear () {
    return this.messages.next()
  }

  /** Sends a message and gives the next one that comes. */
  async ask (message) {
    this.say(message)
    return await this.hear()
  }

  /** Registers, and gives the data of the answer. */
  async register (more) {
    const ready = await this.ask(registration(more))
    assert.equal(ready.event, 'GATEWAY_READY', JSON.stringify(ready))
    return ready.data
  }

  /** Shows that nothing more came, as far as the server knew. */
  async silent () {
    for (let time = 0; time < 2; time++) assert.deepEqual(await this.ask({ type: 3 }), PONG)
    assert.deepEqual(this.messages.rest(), [])
  }

  /** The next message must be this error; what it says to people is up to the server, but must be something. */
  async refused (expected) {
    const { message, ...rest } = await this.hear()
    assert.deepEqual(rest, expected)
    assert.match(message, /\w/)
  }

  /** The server closes with this code, and says nothing before that. */
  async closes (code) {
    assert.equal(await within('the close', this.closed), code)
    assert.deepEqual(this.messages.rest(), [])
  }

  /** Ends the connection without a word. */
  async cut () {
    this.socket.terminate()
    await within('the end', this.closed)
  }
}

/** Text frames, and nothing else. */
function plain (data, isBinary) {
  assert.equal(isBinary, false, 'a server that was not asked for anything else speaks text')
  return [String(data)]
}

/** Binary frames, each a whole zlib stream. */
export function zipped (data, isBinary) {
  assert.equal(isBinary, true)
  return [String(zlib.inflateSync(data))]
}
