// The client of Switchboard for web pages, and for any runtime with a `WebSocket`. What it offers: switchboard.d.ts.
// How to use it: docs/guide/browser.md. It has no dependencies and needs no build.

const DEFAULTS = {
  reconnect: { min: 500, max: 30_000, factor: 2 },
  timeout: 10_000,
  // The server pings every 30 seconds whoever is silent, so a link that is silent for longer is dead.
  silence: 45_000,
  maxPending: 256
}

/** Why a request or a connection failed: `code` is for programs, `answer` is what the server said, if it said anything. */
export class SwitchboardError extends Error {
  constructor (code, message, answer = null) {
    super(message)
    this.name = 'SwitchboardError'
    this.code = code
    this.answer = answer
  }
}

export class Switchboard {
  #url
  #options
  #listeners = new Map()
  #state = 'disconnected'
  #details = null
  /** The rooms to be in, whatever happens to the link. */
  #rooms = new Set()
  /** What does the server's commands, by their keys. */
  #handlers = new Map()
  #isToAnnounce = false
  #socket = null
  /** What settles the promise of `connect`, until it is settled. */
  #opening = null
  #pending = new Map()
  #lastId = 0
  #attempt = 0
  #connectedAt = 0
  #heardAt = 0
  #watch
  #retry
  /** The server has said that this client is not to come back. */
  #dismissed = false

  constructor (url, options = {}) {
    const { reconnect = {}, ...others } = options
    this.#url = socketUrl(url)
    this.#options = { ...DEFAULTS, WebSocket: globalThis.WebSocket, ...others }
    this.#options.reconnect = reconnect && { ...DEFAULTS.reconnect, ...reconnect }
    if (!this.#options.WebSocket) throw new TypeError('there is no WebSocket here: give one as options.WebSocket')
  }

  get url () { return this.#url }
  get state () { return this.#state }
  get id () { return this.#details?.id ?? null }
  get rooms () { return [...this.#rooms] }

  on (name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set())
    this.#listeners.get(name).add(listener)
    return () => this.off(name, listener)
  }

  off (name, listener) {
    this.#listeners.get(name)?.delete(listener)
  }

  onCommand (key, handler) {
    this.#handlers.set(key, handler)
    this.#announceSoon()
    return () => {
      if (this.#handlers.get(key) !== handler) return
      this.#handlers.delete(key)
      this.#announceSoon()
    }
  }

  connect () {
    if (this.#state === 'connected') return Promise.resolve(this.#details)
    const opening = this.#opening ??= settleable()
    if (this.#state === 'disconnected') {
      this.#attempt = 0
      this.#open('connecting')
    }
    return opening.promise
  }

  disconnect () {
    const socket = this.#socket
    this.#rooms.clear()
    this.#lost(new SwitchboardError('disconnected', 'disconnect() was called'), { code: 1000, reason: '' }, false)
    socket?.close(1000)
  }

  action (name, params = {}, options) {
    return this.request('action', { params: { ...params, action: name } }, options)
  }

  async say (room, message) {
    return (await this.request('say', { room, message })).data ?? null
  }

  async room (room) {
    return (await this.request('roomView', { room })).data
  }

  async details () {
    return (await this.request('detailsView')).data
  }

  async documentation () {
    return (await this.request('documentation')).data
  }

  async file (file) {
    const { content, mime, length, lastModified = null } = await this.request('file', { file })
    return { content, mime, length, lastModified }
  }

  async join (room) {
    await this.#move('roomAdd', room, true)
    this.#rooms.add(room)
  }

  async leave (room) {
    this.#rooms.delete(room)
    await this.#move('roomLeave', room, false)
  }

  request (event, members = {}, options) {
    if (this.#state === 'connected') return this.#ask(event, members, options)
    return Promise.reject(new SwitchboardError('disconnected', 'there is no connection'))
  }

  /** Joins or leaves. Having been there already is as good: then the server refuses, and its list of rooms tells. */
  async #move (event, room, inside) {
    try {
      await this.request(event, { room })
    } catch (error) {
      if (error.code !== 'refused' || (await this.details()).rooms.includes(room) !== inside) throw error
    }
  }

  #ask (event, members = {}, { timeout = this.#options.timeout } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#pending.size >= this.#options.maxPending) {
        throw new SwitchboardError('busy', `${this.#pending.size} requests wait for their answers`)
      }
      const messageId = ++this.#lastId
      this.#socket.send(JSON.stringify({ ...members, event, messageId }))
      const timer = setTimeout(() => {
        this.#pending.delete(messageId)
        reject(new SwitchboardError('timeout', `${event}: no answer within ${timeout} ms`))
      }, timeout)
      // Verbs have a status of their own; an action may call a member so and put anything into it.
      this.#pending.set(messageId, { resolve, reject, timer, hasStatus: event !== 'action' && event !== 'file' })
    })
  }

  #open (state) {
    this.#state = state
    this.#dismissed = false
    let socket
    try {
      socket = new this.#options.WebSocket(this.#url)
    } catch (error) {
      // The address or the page's own rules forbid it, so trying again would not help.
      return this.#lost(error, { code: 1006, reason: error.message }, false)
    }
    this.#socket = socket
    // A socket that has been given up may still have something to say.
    const current = (react) => (event) => { if (socket === this.#socket) react(event) }
    const late = () => this.#drop(`no connection within ${this.#options.timeout} ms`)
    this.#watch = setTimeout(late, this.#options.timeout)
    let isOpen = false
    socket.onopen = current(() => {
      isOpen = true
      this.#begin()
    })
    socket.onmessage = current(({ data }) => this.#hear(data))
    // Browsers hide what went wrong; `close` follows.
    socket.onerror = () => {}
    socket.onclose = current(async ({ code, reason }) => {
      const refusal = isOpen ? null : await refusalOf(this.#url, this.#options.timeout)
      // Until then the page may have disconnected, or the time may be over.
      if (socket === this.#socket) this.#closed(code, reason, refusal)
    })
  }

  /** Tells the server what this client is and which commands it takes: once for all handlers that come and go together. */
  #announceSoon () {
    if (this.#isToAnnounce) return
    this.#isToAnnounce = true
    Promise.resolve().then(() => {
      this.#isToAnnounce = false
      // A socket that is not open yet tells all of it when it is.
      if (this.#socket?.readyState === 1) this.#announce()
    })
  }

  #announce () {
    const keys = [...this.#handlers.keys()]
    const data = { ...this.#options.clientData, ...keys.length > 0 && { commands: keys } }
    this.#report(this.#ask('setCustomClientData', { data }))
  }

  /** Tells the page when what it did not ask for itself fails; that the link is lost, it knows. */
  #report (request) {
    request.catch((error) => { if (error.code !== 'disconnected') this.#emit('error', error) })
  }

  /** Does what the server asks for, and says how that went, unless nobody waits for it any more. */
  async #obey (command) {
    const { _id: id, key, ttl_ms: ttl = Infinity } = command
    const end = Date.now() + ttl
    const reply = async (reply) => {
      if (Date.now() < end && this.#state === 'connected') await this.request('replyClientCommand', { id, reply })
    }
    try {
      const handler = this.#handlers.get(key)
      if (!handler) throw new Error(`this client has no handler for ${key}`)
      const value = await handler(command) ?? {}
      const isReply = typeof value === 'object' && !Array.isArray(value)
      await reply({ success: true, ...isReply ? value : { data: value } })
    } catch (error) {
      // The handler failed, or the server refused its reply, for being too large, say.
      this.#report(reply({ success: false, error: { message: String(error?.message ?? error) } }))
    }
  }

  /** Says what it is, takes its rooms again, then asks who and where it is now, and only then says that it is connected. */
  async #begin () {
    const socket = this.#socket
    const wanted = this.rooms
    let details, refused
    try {
      if (this.#handlers.size > 0 || this.#options.clientData) this.#announce()
      // Requests of a connection are carried out in order, so the last answer shows what became of the others.
      for (const room of wanted) socket.send(JSON.stringify({ event: 'roomAdd', room, messageId: ++this.#lastId }))
      details = (await this.#ask('detailsView')).data
      const inside = [...details.rooms]
      refused = wanted.filter((room) => !inside.includes(room))
    } catch (error) {
      if (socket === this.#socket) this.#drop(error.message)
      return
    }
    if (socket !== this.#socket) return
    clearTimeout(this.#watch)
    this.#state = 'connected'
    this.#details = details
    this.#connectedAt = this.#heardAt = Date.now()
    this.#listen()
    for (const room of refused) this.#rooms.delete(room)
    this.#opening?.resolve(details)
    this.#opening = null
    this.#emit('connected', details)
    for (const room of refused) {
      this.#emit('error', new SwitchboardError('refused', `the server did not let this client into ${room} again`))
    }
  }

  /** Gives the link up once nothing has been heard for too long. */
  #listen () {
    const left = this.#heardAt + this.#options.silence - Date.now()
    if (left <= 0) return this.#drop(`nothing heard for ${this.#options.silence} ms`)
    this.#watch = setTimeout(() => this.#listen(), left)
  }

  #hear (text) {
    this.#heardAt = Date.now()
    let message
    try {
      message = JSON.parse(text)
    } catch {
      return this.#emit('error', new SwitchboardError('protocol', 'the server sent something that is not JSON'))
    }
    if (typeof message === 'string' && message.startsWith('primus::')) return this.#control(message)
    const { context, messageId } = message ?? {}
    if (context === 'user') return this.#emit('say', message)
    // Without a handler the page may want to do them itself.
    if (context === 'command' && this.#handlers.size > 0) return this.#obey(message)
    if (context === 'api' && message.gap) return this.#emit('gap', message)
    if (context === 'api' && message.welcome) return this.#emit('welcome', message)
    // Our own numbers are answers, be they late or to joining again; the application's messages may have others, or none.
    if (context === 'response' && typeof messageId === 'number') return this.#answer(messageId, message)
    this.#emit('message', message)
  }

  #control (text) {
    if (text.startsWith('primus::ping::')) this.#socket.send(JSON.stringify(text.replace('ping', 'pong')))
    if (text === 'primus::server::close') this.#dismissed = true
  }

  #answer (messageId, answer) {
    const request = this.#pending.get(messageId)
    if (!request) return
    this.#pending.delete(messageId)
    clearTimeout(request.timer)
    const { error, status } = answer
    const refusal = error ?? (request.hasStatus && status !== 'OK' ? status : null)
    if (refusal === null) request.resolve(answer)
    else request.reject(new SwitchboardError('refused', refusal.message ?? String(refusal), answer))
  }

  /** Gives up a link that may be dead: nobody waits for it to close. */
  #drop (reason) {
    const socket = this.#socket
    this.#closed(1006, reason)
    socket.close()
  }

  /** Only a connection that was established once is restored; until then `connect` tells the page. */
  #closed (code, reason, refusal = null) {
    const isFirst = this.#state === 'connecting'
    const what = isFirst ? `no connection to ${this.#url}` : 'the connection was lost'
    const error = refusal === null
      ? new SwitchboardError('disconnected', `${what} (${code}${reason && `: ${reason}`})`)
      : new SwitchboardError('refused', refusal)
    const comeBack = Boolean(this.#options.reconnect) && !this.#dismissed && !isFirst
    this.#lost(error, { code, reason: reason || refusal || '' }, comeBack)
    if (isFirst || refusal !== null) this.#emit('error', error)
  }

  #lost (error, { code, reason }, comeBack) {
    const before = this.#state
    clearTimeout(this.#watch)
    clearTimeout(this.#retry)
    this.#socket = null
    this.#details = null
    this.#state = comeBack ? 'reconnecting' : 'disconnected'
    const requests = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject, timer } of requests) {
      clearTimeout(timer)
      reject(error)
    }
    this.#opening?.reject(error)
    this.#opening = null
    if (before === 'connected' || (before === 'reconnecting' && !comeBack)) {
      this.#emit('disconnected', { code, reason, reconnect: comeBack })
    }
    // Whoever heard that may have decided otherwise.
    if (comeBack && this.#state === 'reconnecting') this.#comeBack(before === 'connected')
  }

  #comeBack (wasConnected) {
    const { min, max, factor } = this.#options.reconnect
    // A server that takes clients and loses them at once is not pressed harder than one that takes none.
    if (wasConnected && Date.now() - this.#connectedAt >= max) this.#attempt = 0
    // Anything between nothing and the bound: whoever lost the same server does not come back at the same time.
    const delay = Math.round(Math.random() * Math.min(max, min * factor ** this.#attempt))
    this.#attempt++
    this.#retry = setTimeout(() => this.#open('reconnecting'), delay)
    this.#emit('reconnecting', { attempt: this.#attempt, delay })
  }

  #emit (name, value) {
    for (const listener of [...this.#listeners.get(name) ?? []]) {
      try {
        listener(value)
      } catch (error) {
        // It is the application's mistake and reported like any other, but the client and the other listeners go on.
        queueMicrotask(() => { throw error })
      }
    }
  }
}

/**
 * Asks a server that has opened no WebSocket for the reason, because browsers hide it. Returns `null` if the server is
 * not there or would take the connection now.
 */
async function refusalOf (socketUrl, timeout) {
  const url = new URL(socketUrl)
  url.protocol = url.protocol.replace('ws', 'http')
  url.searchParams.set('refusal', '1')
  const ask = async (mode) => fetch(url, { mode, cache: 'no-store', signal: AbortSignal.timeout(timeout) })
  try {
    const response = await ask('cors')
    // A server that does not know the question wants an upgrade.
    if (response.ok || response.status === 426) return null
    const isText = response.headers.get('content-type')?.startsWith('text/plain')
    return (isText && (await response.text()).trim()) || `the server answered with HTTP status ${response.status}`
  } catch {
    const origin = globalThis.location?.origin
    if (!origin || origin === url.origin) return null
    // Browsers hide the answer from pages of other origins. That there is one can be seen.
    const refused = `${url.origin} refuses pages of ${origin}: its servers.web.allowed_origins must list that origin`
    return ask('no-cors').then(() => refused, () => null)
  }
}

function settleable () {
  const it = {}
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }))
  return it
}

/** The address of the server's WebSocket: that of the page unless one is given, under `/primus` unless a path is given. */
function socketUrl (url = '/') {
  const full = new URL(url, globalThis.location?.href)
  if (full.pathname === '/') full.pathname = '/primus'
  full.protocol = full.protocol.replace('http', 'ws')
  full.hash = ''
  return full.href
}
