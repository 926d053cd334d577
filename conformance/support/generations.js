// ActionHero's own browser clients, each as its own server would have written it to `javascript/`, in a page that is no more
// than what they touch of one.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { inspect } from 'node:util'
import vm from 'node:vm'

import WebSocket from 'ws'

import { emitted, within } from './deadline.js'

const require = createRequire(import.meta.url)

/**
 * Who pings whom, and whether a client that came back takes its rooms again, which that of 29.3.5 forgets.
 */
export const GENERATIONS = [
  { version: '9.4.1', folder: 'actionhero-9', script: 'actionheroClient', primus: '2.4.12', pings: true, rejoins: true },
  { version: '12.5.0', folder: 'actionhero-12', script: 'actionheroClient', primus: '4.0.5', pings: true, rejoins: true },
  { version: '18.1.4', folder: 'actionhero-18', script: 'ActionheroWebsocketClient', primus: '7.3.5', pings: false, rejoins: true },
  { version: '29.3.5', folder: 'actionhero-29', script: 'ActionheroWebsocketClient', primus: '8.0.9', pings: false, rejoins: false }
].map((generation) => ({ name: `the browser client of ${generation.version}`, source: () => written(generation), ...generation }))

/** Our own, which the server gives to pages that ask for one of those. */
export const REPLACEMENT = {
  name: 'the replacement of the browser client',
  source: () => `${readFileSync(new URL('../../crates/switchboard/assets/javascript/actionheroClient.js', import.meta.url))}
    window.Client = window.ActionheroWebsocketClient`,
  pings: false,
  rejoins: true
}

/** The Primus library and the client above it, as one script: what a server of that generation writes when it starts. */
function written ({ folder, script, primus: version }) {
  const Primus = require(require.resolve('primus', { paths: [require.resolve(`${folder}/package.json`)] }))
  const primus = new Primus(createServer(), { transformer: 'websockets' })
  if (primus.version !== version) throw new Error(`${folder} comes with Primus ${primus.version}, not ${version}`)
  const library = primus.library()
  primus.destroy({ close: false })
  const defaults = inspect({ apiPath: '/api', cookieKey: 'sessionID' }).replace('{', '{ url: window.location.origin,')
  const client = readFileSync(require.resolve(`${folder}/client/${script}.js`), 'utf8').replace('%%DEFAULTS%%', `return ${defaults}`)
  return `${library}\n;(function (exports) {\n${client}\nexports.Client = ${script[0].toUpperCase()}${script.slice(1)}\n})(window)`
}

/** The class of this client in a page from `origin`, which notes what goes over its WebSockets. */
function load (generation, origin, sent, received) {
  class PageSocket extends WebSocket {
    constructor (url, protocols) {
      super(url, protocols, { origin })
      this.addEventListener('message', ({ data }) => received.push(data))
    }

    send (data) {
      sent.push(data)
      super.send(data)
    }
  }
  const window = {
    WebSocket: PageSocket,
    XMLHttpRequest: PageRequest,
    location: new URL(origin),
    navigator: { onLine: true, userAgent: 'Mozilla/5.0' },
    addEventListener () {},
    document: { cookie: '', createElement: link },
    // Arrays and objects from a JSON of its own would equal none of ours.
    JSON,
    // These are there for the replacement alone.
    URL, URLSearchParams, fetch, AbortSignal,
    console, setTimeout, clearTimeout, setInterval, clearInterval, setImmediate
  }
  window.window = window
  const context = vm.createContext(window)
  vm.runInContext(generation.source(), context)
  return context.Client
}

/** The link that older libraries make to take an address to pieces: they look for its parts as own properties. */
function link () {
  let url
  const parts = ['href', 'protocol', 'host', 'hostname', 'port', 'pathname', 'search', 'hash']
  return Object.defineProperties({}, Object.fromEntries(parts.map((part) => {
    return [part, { enumerable: true, get: () => url[part], set: (text) => { url = new URL(text) } }]
  })))
}

/** What the clients use of requests over HTTP. */
class PageRequest {
  readyState = 0
  #request

  open (method, url) {
    this.#request = { url, method, headers: {} }
  }

  setRequestHeader (name, value) {
    this.#request.headers[name] = value
  }

  async send (body) {
    const { url, ...request } = this.#request
    const response = await fetch(url, { ...request, body })
    this.responseText = await response.text()
    Object.assign(this, { readyState: 4, status: response.status, statusText: response.statusText })
    this.onreadystatechange()
  }
}

/** A page with the client of a generation. */
export class Page {
  /** What went over its WebSockets, as text. */
  sent = []
  received = []
  /** Messages from rooms that nobody has taken yet. */
  said = []
  /** What happened to the link, by the names of the events. */
  events = []

  constructor (generation, server) {
    this.generation = generation
    this.client = new (load(generation, server.web.origin, this.sent, this.received))()
    for (const event of ['connected', 'disconnected', 'reconnect', 'reconnecting', 'timeout', 'error']) {
      this.client.on(event, () => this.events.push(event))
    }
    this.client.on('welcome', ({ welcome }) => { this.welcome = welcome })
    this.client.on('say', (message) => {
      this.said.push(message)
      this.client.emit('heard')
    })
  }

  async connect () {
    const done = new Promise((resolve, reject) => {
      this.client.connect((error, details) => error ? reject(error) : resolve(details))
    })
    this.details = await within(`the connection of ${this.generation.name}`, done)
    return this
  }

  /** Calls a method that takes a callback. Later generations give it the answer alone, the first one an error before it. */
  call (method, ...words) {
    return within(`${method} ${words}`, new Promise((resolve) => {
      this.client[method](...words, (...values) => resolve(values.pop()))
    }))
  }

  /** The next message of a room. */
  async hear () {
    if (this.said.length === 0) await emitted(this.client, 'heard')
    return this.said.shift()
  }

  close () {
    this.client.disconnect()
  }
}
