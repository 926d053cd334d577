// The SDK for bots, 0.2.9. Its driver is a module and not a class, and its login tokens are kept beside it: each bot gets a copy of all.

import { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import { setImmediate } from 'node:timers/promises'

import { within } from './deadline.js'
import { Inbox } from './inbox.js'

const require = createRequire(import.meta.url)

// A call that fails fails twice in its library, once where nobody looks: it tells the process, which in a bot goes unheard, and the runner
// of these tests would take it for a failure. What the SDK's own code leaves unhandled is still one.
require('q').stopUnhandledRejectionTracking()

const MODULES = /\/node_modules\/(rocketchat-sdk-0|asteroid|ddp\.js)\//

/** The SDK as a process of its own would load it. */
function load () {
  for (const path of Object.keys(require.cache)) if (MODULES.test(path)) delete require.cache[path]
  return require('rocketchat-sdk-0')
}

export class SdkBot extends EventEmitter {
  commands = new Inbox('a command')
  messages = new Inbox('a message')
  /** What it logged, line by line. */
  logged = []
  /** The frames that went over all its connections, parsed. */
  sent = []
  received = []

  /** Connects to where `host` and `port` say, as an instance of `Kind`. */
  static async connect ({ host, port }, Kind = SdkBot) {
    const bot = new Kind()
    const driver = bot.driver = load().driver
    const log = (...words) => bot.logged.push(`${words.join(' ')}\n`)
    driver.useLog({ debug: log, info: log, warn: log, warning: log, error: log })
    const connected = driver.connect({ host: `${host}:${port}`, useSsl: false })
    bot.#note(driver.asteroid.ddp)
    driver.asteroid.on('login', () => bot.emit('login'))
    await within('the connection', connected)
    return bot
  }

  get id () {
    return this.driver.userId
  }

  async login (username, password) {
    await within('the login', this.driver.login({ username, password }))
  }

  call (method, ...params) {
    return within(method, this.driver.asyncCall(method, params))
  }

  /** By the generic subscription, as the SDK has none for commands. */
  async takeCommands () {
    await within('the subscription', this.driver.subscribe('stream-client-commands', this.id))
    this.onCommand((document) => this.commands.put(document))
  }

  /** Gives each command that arrives to `take`, by the query that the driver uses for messages. */
  onCommand (take) {
    const collection = this.driver.asteroid.getCollection('stream-client-commands')
    collection.reactiveQuery({}).on('change', (_id) => {
      const [{ args }] = collection.reactiveQuery({ _id }).result
      if (Array.isArray(args)) take(args[0])
    })
  }

  /** Hears all its rooms, not only this one. */
  async listen () {
    await within('the subscription', this.driver.subscribeToMessages())
    this.driver.reactToMessages((error, message, meta) => this.messages.put(Object.assign(message, { meta }, error && { error })))
  }

  /** Hears what others say in all its rooms, with what the driver filters out left out. */
  async respond (options) {
    await within('the subscription', this.driver.subscribeToMessages())
    await this.driver.respondToMessages((error, message, meta) => {
      this.messages.put(Object.assign(message, { meta }, error && { error }))
      this.emit('message', message)
    }, options)
    // It passes over what is not later than its own clock is now.
    while (Date.now() <= this.driver.lastReadTime.getTime()) await setImmediate()
  }

  hear () {
    return this.messages.next()
  }

  /** Its socket stays; only its subscriptions and its login end. */
  logout () {
    return within('the logout', this.driver.disconnect())
  }

  /** The driver cannot close its socket, which would keep the process from ending. */
  async close () {
    const { ddp } = this.driver.asteroid
    ddp._autoreconnect = false
    const closed = new Promise((resolve) => ddp._socket.on('close', resolve))
    ddp._socket.close()
    await within('the close', closed)
  }

  /** Listens at its sockets: the first is there, but not open yet. */
  #note (ddp) {
    const listen = (socket) => {
      const send = socket.send.bind(socket)
      socket.send = (text) => {
        this.sent.push(JSON.parse(text))
        return send(text)
      }
      socket.on('message', ({ data }) => {
        this.received.push(JSON.parse(data))
        this.emit('frame')
      })
      return socket
    }
    listen(ddp._socket)
    const Socket = ddp._SocketConstructor
    ddp._SocketConstructor = function (address) { return listen(new Socket(address)) }
  }
}
