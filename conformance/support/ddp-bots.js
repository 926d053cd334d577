// Clients that speak DDP, behind one small surface, so that one suite judges them all.
//
// Nothing here changes what a client sends: each logs in, subscribes and calls in its own way. A bot emits `login` each time it is
// logged in, so also when its client came back by itself.

import { createHash } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'

import { DDPSDK } from '@rocket.chat/ddp-client'
import SimpleDDP from 'simpleddp'
import WebSocket from 'ws'

import { emitted, within } from './deadline.js'
import { Inbox } from './inbox.js'
import { SdkBot } from './sdk-bot.js'

const require = createRequire(import.meta.url)
const { DDPDriver } = require('rocketchat-sdk-1/lib/drivers/ddp')

// Node has it built in only in later versions, and the client looks for it as a page does.
globalThis.WebSocket = WebSocket

/** The time after which a client that lost its connection tries again, where it can be told. */
const RETRY_MS = 50

const SILENT = { debug () {}, info () {}, warn () {}, warning () {}, error () {} }

const sha256 = (text) => createHash('sha256').update(text).digest('hex')

class Bot extends EventEmitter {
  commands = new Inbox('a command')
  messages = new Inbox('a message')

  /** The next message of a room, as `{rid, msg, u, ts}` and more. */
  hear () {
    return this.messages.next()
  }
}

/** The later SDK's driver for DDP, without the rest of it. */
class DriverBot extends Bot {
  static async connect ({ host, port }) {
    const bot = new DriverBot()
    bot.driver = new DDPDriver({ host: `${host}:${port}`, reopen: RETRY_MS, logger: SILENT })
    bot.driver.ddp.on('login', () => bot.emit('login'))
    bot.driver.onMessage((message) => bot.messages.put(message))
    await within('the connection', bot.driver.connect())
    return bot
  }

  async login (username, password) {
    const { id, token } = await within('the login', this.driver.login({ username, password }))
    Object.assign(this, { id, token })
  }

  call (method, ...params) {
    return within(method, this.driver.methodCall(method, ...params))
  }

  async takeCommands () {
    await this.driver.onStreamData('stream-client-commands', ({ fields }) => this.commands.put(fields.args[0]))
    await within('the subscription', this.driver.subscribe('stream-client-commands', this.id))
  }

  async listen (room) {
    await within('the subscriptions', this.driver.subscribeRoom(room))
  }

  // Its own `logout` waits for each subscription to end, and misses the frame that says so.
  logout () {
    return this.call('logout')
  }

  close () {
    return within('the close', this.driver.disconnect())
  }
}

class SimpleBot extends Bot {
  static async connect ({ host, port }) {
    const bot = new SimpleBot()
    bot.ddp = new SimpleDDP({ endpoint: `ws://${host}:${port}/websocket`, SocketConstructor: WebSocket, reconnectInterval: RETRY_MS })
    bot.ddp.on('changed', ({ collection, fields }) => {
      if (collection === 'stream-client-commands') bot.commands.put(fields.args[0])
      if (collection === 'stream-room-messages') bot.messages.put(fields.args[0])
    })
    await within('the connection', bot.ddp.connect())
    // The library leaves it to its user to log in again.
    bot.ddp.on('connected', () => bot.token && bot.#loggedIn(bot.call('login', { resume: bot.token })))
    return bot
  }

  async login (username, password) {
    await this.#loggedIn(this.call('login', { user: { username }, password: { digest: sha256(password), algorithm: 'sha-256' } }))
  }

  async #loggedIn (answer) {
    const { id, token } = await answer
    Object.assign(this, { id, token })
    this.emit('login')
  }

  call (method, ...params) {
    return within(method, this.ddp.call(method, ...params))
  }

  takeCommands () {
    return within('the subscription', this.ddp.subscribe('stream-client-commands', this.id, false).ready())
  }

  listen (room) {
    return within('the subscription', this.ddp.subscribe('stream-room-messages', room, false).ready())
  }

  async logout () {
    this.token = undefined
    await this.call('logout')
  }

  close () {
    return within('the close', this.ddp.disconnect())
  }
}

class ClientBot extends Bot {
  static async connect ({ host, port }) {
    const bot = new ClientBot()
    const connected = DDPSDK.createAndConnect(`ws://${host}:${port}`, { retryCount: 100, retryTime: RETRY_MS })
    bot.sdk = await within('the connection', connected)
    bot.sdk.account.on('user', ({ token }) => token && bot.emit('login'))
    return bot
  }

  async login (username, password) {
    await within('the login', this.sdk.account.loginWithPassword(username, sha256(password)))
    Object.assign(this, { id: this.sdk.account.uid, token: this.sdk.account.user.token })
  }

  call (method, ...params) {
    return within(method, this.sdk.call(method, ...params))
  }

  takeCommands () {
    return this.#stream('client-commands', this.id, (document) => this.commands.put(document))
  }

  listen (room) {
    return this.#stream('room-messages', room, (message) => this.messages.put(message))
  }

  #stream (name, event, take) {
    return within('the subscription', this.sdk.stream(name, event, take).ready())
  }

  logout () {
    return within('the logout', this.sdk.account.logout())
  }

  async close () {
    const closed = emitted(this.sdk.connection.ws, 'close')
    this.sdk.connection.close()
    await closed
    // It would wait for a minute of silence even then.
    this.sdk.timeoutControl.stop()
  }
}

/** Every client, how a bot that uses it connects, and whether it writes dates as the protocol has them. */
export const CLIENTS = [
  { name: '@rocket.chat/sdk 0.2.9', connect: SdkBot.connect, dates: false },
  { name: '@rocket.chat/sdk 1.0.0-alpha.42', connect: DriverBot.connect, dates: false },
  { name: 'simpleddp 2.2.4', connect: SimpleBot.connect, dates: true },
  { name: '@rocket.chat/ddp-client 1.1.2', connect: ClientBot.connect, dates: false }
]
