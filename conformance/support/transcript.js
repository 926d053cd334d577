// Conversations as text, played against a server frame for frame.
//
//     C> what we send, as it is
//     S< what the server sends next, and nothing before it
//     S~ the same, in any order with its neighbours of this kind
//     A> a command for the admin API: the body of the request
//     A< its status, and what must at least be in the answer
//     -- the server closes the connection, and we open another
//     #  a remark
//
// `<NAME>` stands for a value: for any of its kind when it is met first, for the same later on. A time, `<MS>` or `<EXPIRES_MS>`, is another each time. Objects are
// alike in whatever order their members are.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'

import WebSocket from 'ws'

import { ask } from './admin.js'
import { emitted, within } from './deadline.js'
import { Inbox } from './inbox.js'

const ID = /^[23456789A-HJ-NP-TW-Za-km-z]{17}$/

/** What a value is like, by how its name begins. */
const KINDS = { SESSION: ID, COMMAND_ID: ID, MESSAGE_ID: ID, TOKEN: /^[\w-]{43}$/, EXPIRES_MS: /^\d{13}$/, MS: /^\d+$/ }

/** Plays a transcript by its name. `known` has the values of names that the server was told. */
export async function play (name, server, known) {
  const text = readFileSync(new URL(`../transcripts/ddp/${name}.txt`, import.meta.url), 'utf8')
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const player = new Player(server, known)
  try {
    await player.open()
    for (const [number, line] of lines.entries()) {
      try {
        await player.follow(line, lines[number + 1])
      } catch (error) {
        throw new Error(`${name}: ${line}\n${error.message}`, { cause: error })
      }
    }
    await player.end()
  } finally {
    player.socket.terminate()
  }
}

class Player {
  #server
  #values
  #outcome
  #unordered = []

  constructor (server, known) {
    this.#server = server
    this.#values = { ...known }
  }

  async open () {
    const frames = this.frames = new Inbox('a frame')
    this.socket = new WebSocket(`ws://${this.#server.web.host}:${this.#server.web.port}/websocket`)
    this.socket.on('message', (data) => frames.put(String(data)))
    this.closed = new Promise((resolve) => this.socket.on('close', resolve))
    await emitted(this.socket, 'open')
  }

  async follow (line, next) {
    const text = line.slice(3)
    switch (line.slice(0, 2)) {
      case 'C>':
        return this.socket.send(this.#fill(text))
      case 'S<':
        return this.#match(await this.frames.next(), [text])
      case 'S~':
        this.#unordered.push(text)
        if (next?.startsWith('S~')) return
        while (this.#unordered.length > 0) this.#match(await this.frames.next(), this.#unordered)
        return
      case 'A>':
        this.#outcome = ask(this.#server, 'POST', '/v1/commands', JSON.parse(this.#fill(text)))
        return
      case 'A<': {
        const { status, text: body } = await this.#outcome
        assert.equal(status, Number(text.slice(0, 3)), body)
        this.#values = alike(JSON.parse(body), template(text.slice(4)), this.#values, true)
        return
      }
      case '--':
        await within('the close', this.closed)
        assert.deepEqual(this.frames.rest(), [])
        return await this.open()
      default:
        throw new Error('there is no such line')
    }
  }

  /** Leaves. Whatever else the server had to say comes before its part of that. */
  async end () {
    this.socket.close(1000)
    await within('the close', this.closed)
    assert.deepEqual(this.frames.rest(), [], 'the server said more')
  }

  /** Takes the frame for the first of `texts` that it is like. */
  #match (frame, texts) {
    let complaint
    for (const [index, text] of texts.entries()) {
      try {
        this.#values = alike(JSON.parse(frame), template(text), this.#values, false)
        texts.splice(index, 1)
        return
      } catch (error) {
        complaint = error
      }
    }
    throw new Error(`${frame}\n${complaint.message}`, { cause: complaint })
  }

  #fill (text) {
    return text.replaceAll(/<([A-Z_0-9]+)>/g, (mark, name) => {
      assert.ok(name in this.#values, `${mark} has no value yet`)
      return this.#values[name]
    })
  }
}

/** A line as a value, in which names are texts even where numbers are meant. */
function template (text) {
  return JSON.parse(text.replaceAll(/"?<([A-Z_0-9]+)>"?/g, '"<$1>"'))
}

/** The values of names after `actual` was found to be like `expected`, of which it may have more members if it is `open`. */
function alike (actual, expected, values, open) {
  const name = typeof expected === 'string' && /^<([A-Z_0-9]+)>$/.exec(expected)?.[1]
  if (name) {
    if (name in values) {
      assert.deepEqual(actual, values[name])
      return values
    }
    const [, kind] = Object.entries(KINDS).find(([prefix]) => name.startsWith(prefix))
    assert.match(String(actual), kind, `<${name}>`)
    return name.endsWith('MS') ? values : { ...values, [name]: actual }
  }
  if (expected === null || typeof expected !== 'object') {
    assert.deepEqual(actual, expected)
    return values
  }
  assert.equal(Object.prototype.toString.call(actual), Object.prototype.toString.call(expected), JSON.stringify(actual))
  if (Array.isArray(expected) || !open) assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort())
  return Object.entries(expected).reduce((values, [key, value]) => alike(actual[key], value, values, open), values)
}
