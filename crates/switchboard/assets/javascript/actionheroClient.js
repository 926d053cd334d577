// Switchboard's client for pages that were written for ActionHero: the same names, methods, events and shapes of what the
// callbacks get, so that such a page works as it is. New pages are better served by switchboard.js.
//
// A classic script without dependencies. It defines `ActionheroClient` and `ActionheroWebsocketClient`, which are one.

;(function (target) {
  'use strict'

  // The server pings every 30 seconds whoever is silent, so a link that is silent for longer is dead.
  const SILENCE_MS = 45000
  const OPENING_MS = 10000
  const RECONNECT_MIN_MS = 500
  const RECONNECT_MAX_MS = 30000
  // Requests that wait for an answer or for the connection. What comes on top is answered with an error.
  const MAX_WAITING = 1000

  class Emitter {
    constructor () {
      this._listeners = new Map()
    }

    on (name, listener) {
      this._listeners.set(name, this.listeners(name).concat(listener))
      return this
    }

    once (name, listener) {
      const first = (...values) => {
        this.off(name, first)
        listener.apply(this, values)
      }
      first.listener = listener
      return this.on(name, first)
    }

    off (name, listener) {
      const kept = this.listeners(name).filter((one) => listener && one !== listener && one.listener !== listener)
      this._listeners.set(name, kept)
      return this
    }

    removeAllListeners (name) {
      if (name === undefined) this._listeners.clear()
      else this._listeners.delete(name)
      return this
    }

    listeners (name) {
      return this._listeners.get(name) || []
    }

    emit (name, ...values) {
      const listeners = this.listeners(name)
      for (const listener of listeners) this._call(listener, values)
      return listeners.length > 0
    }

    /** Calls the page's function. Its mistakes are reported like any other, and do not stop the client. */
    _call (listener, values) {
      if (typeof listener !== 'function') return
      try {
        listener.apply(this, values)
      } catch (error) {
        setTimeout(() => { throw error })
      }
    }
  }
  Emitter.prototype.addListener = Emitter.prototype.on
  Emitter.prototype.removeListener = Emitter.prototype.off

  class ActionheroClient extends Emitter {
    constructor (options) {
      super()
      const url = target.location ? target.location.origin : 'http://localhost:8080'
      this.options = Object.assign({ url, apiPath: '/api', path: '/primus' }, options)
      this.state = 'disconnected'
      this.id = null
      this.fingerprint = null
      this.rooms = []
      this.welcomeMessage = null
      this.messageId = 0
      this._socket = null
      // Callbacks by messageId.
      this._waiting = new Map()
      // Requests that wait for the connection.
      this._queue = []
      // What does the server's commands, by their keys.
      this._handlers = new Map()
      this._attempt = 0
      this._wanted = false
    }

    connect (callback) {
      this._wanted = true
      this._abandon('connect was called again')
      this._settle(new Error('connect was called again'))
      this._attempt = 0
      this._connected = callback
      this._open()
    }

    disconnect () {
      this._wanted = false
      this._abandon('disconnect was called')
      this._settle(new Error('disconnect was called'))
      this.state = 'disconnected'
      this.emit('disconnected')
    }

    action (name, params, callback) {
      if (!callback && typeof params === 'function') return this.action(name, null, params)
      const all = Object.assign({}, params, { action: name })
      if (this.state === 'connected') this._ask({ event: 'action', params: all }, callback)
      else this._actionByHttp(all, callback)
    }

    say (room, message, callback) {
      this._ask({ event: 'say', room, message }, callback)
    }

    file (file, callback) {
      this._ask({ event: 'file', file }, callback)
    }

    detailsView (callback) {
      this._ask({ event: 'detailsView' }, callback)
    }

    roomView (room, callback) {
      this._ask({ event: 'roomView', room }, callback)
    }

    roomAdd (room, callback) {
      this._move('roomAdd', room, callback)
    }

    roomLeave (room, callback) {
      this._move('roomLeave', room, callback)
    }

    documentation (callback) {
      this._ask({ event: 'documentation' }, callback)
    }

    /**
     * Beyond ActionHero's: does what the server asks for under this key. `handler` gets the command and returns the reply, or a
     * promise of it: as in switchboard.js.
     */
    onCommand (key, handler) {
      this._handlers.set(key, handler)
      if (this._socket && this._socket.readyState === 1) this._announce()
    }

    /** Tells the server which commands it takes. */
    _announce () {
      this._send({ event: 'setCustomClientData', data: { commands: [...this._handlers.keys()] } })
    }

    /** Does what the server asks for, and says how that went, unless nobody waits for it any more. */
    _obey (command) {
      const end = Date.now() + command.ttl_ms
      const reply = (reply) => {
        if (Date.now() < end && this._socket) this._ask({ event: 'replyClientCommand', id: command._id, reply })
      }
      const handler = this._handlers.get(command.key) || (() => {
        throw new Error(`this client has no handler for ${command.key}`)
      })
      Promise.resolve(command).then(handler)
        .then((value) => reply(Object.assign({ success: true }, isReply(value) ? value : { data: value })))
        .catch((error) => reply({ success: false, error: { message: String((error && error.message) || error) } }))
    }

    /** Joins or leaves, and knows its rooms again before the page is told. */
    _move (event, room, callback) {
      this._ask({ event, room }, (answer) => {
        if (!this._socket) return this._call(callback, [answer])
        this._learn(() => this._call(callback, [answer]))
      })
    }

    _learn (then) {
      this.detailsView((answer) => {
        if (answer.data) {
          this.id = answer.data.id
          this.fingerprint = answer.data.fingerprint
          this.rooms = answer.data.rooms
        }
        then(answer)
      })
    }

    _ask (message, callback) {
      if (!this._wanted) return this._call(callback, [failed('there is no connection')])
      if (this._waiting.size + this._queue.length >= MAX_WAITING) {
        return this._call(callback, [failed('too many requests wait for their answers')])
      }
      if (this._socket && this._socket.readyState === 1) this._send(message, callback)
      else this._queue.push({ message, callback })
    }

    _send (message, callback) {
      const messageId = ++this.messageId
      this._waiting.set(messageId, callback)
      this._socket.send(JSON.stringify(Object.assign({}, message, { messageId })))
    }

    _actionByHttp (params, callback) {
      const method = String(params.httpMethod || 'POST').toUpperCase()
      const query = new URLSearchParams({ action: params.action })
      const request = { method, headers: {}, credentials: 'same-origin' }
      if (method === 'GET') {
        for (const name of Object.keys(params)) if (name !== 'httpMethod') query.set(name, params[name])
      } else {
        request.headers['Content-Type'] = 'application/json'
        request.body = JSON.stringify(params)
      }
      let statusText = ''
      let responseText = ''
      target.fetch(`${this.options.url}${this.options.apiPath}?${query}`, request)
        .then((response) => {
          statusText = response.statusText
          return response.text()
        })
        .then((text) => {
          responseText = text
          return JSON.parse(text)
        })
        .catch((error) => ({ error: { statusText: statusText || error.message, responseText } }))
        .then((answer) => this._call(callback, [answer]))
    }

    _open () {
      const url = new URL(this.options.path, this.options.url)
      url.protocol = url.protocol.replace('http', 'ws')
      let socket
      try {
        socket = new (this.options.WebSocket || target.WebSocket)(url.href)
      } catch (error) {
        // The address or the page's own rules forbid it, so trying again would not help.
        this._wanted = false
        return this._lost(error.message)
      }
      this._socket = socket
      // A socket that has been given up may still have something to say.
      const current = (react) => (event) => { if (socket === this._socket) react(event) }
      this._watch = setTimeout(() => this._lost('the server did not answer'), OPENING_MS)
      let isOpen = false
      socket.onopen = current(() => {
        isOpen = true
        this._begin()
      })
      socket.onmessage = current((event) => this._hear(event.data))
      // Browsers hide what went wrong; `close` follows.
      socket.onerror = () => {}
      socket.onclose = current(() => {
        if (isOpen) return this._lost('the connection was lost')
        this._refusal().then(current((reason) => this._lost(reason)))
      })
    }

    /** Asks a server that has opened no WebSocket for the reason, because browsers hide it. */
    _refusal () {
      const url = new URL(this.options.path, this.options.url)
      url.searchParams.set('refusal', '1')
      const none = 'the server cannot be reached, or hides its reason from this page'
      return Promise.resolve()
        .then(() => target.fetch(url.href, { cache: 'no-store', signal: AbortSignal.timeout(OPENING_MS) }))
        .then((response) => response.ok || response.status === 426 ? none : response.text())
        .then((text) => text.trim(), () => none)
    }

    /** Calls the callback of `connect`, once. */
    _settle (error, details) {
      const connected = this._connected
      this._connected = null
      this._call(connected, [error, details])
    }

    /** Takes its rooms again and learns who it is, before anything that the page has asked for meanwhile. */
    _begin () {
      const again = this.state === 'reconnecting'
      this._heardAt = Date.now()
      if (this._handlers.size > 0) this._announce()
      for (const room of this.rooms) this._send({ event: 'roomAdd', room })
      this._learn((answer) => {
        if (!answer.data) return this._socket && this._lost('the server did not say who this is')
        clearTimeout(this._watch)
        this._listen()
        this._connectedAt = Date.now()
        this.state = 'connected'
        if (again) this.emit('reconnect')
        this.emit('connected')
        this._settle(null, answer)
      })
      for (const { message, callback } of this._queue.splice(0)) this._send(message, callback)
    }

    _listen () {
      const left = this._heardAt + SILENCE_MS - Date.now()
      if (left <= 0) return this._lost('nothing was heard for too long')
      this._watch = setTimeout(() => this._listen(), left)
    }

    _hear (text) {
      this._heardAt = Date.now()
      let message
      try {
        message = JSON.parse(text)
      } catch (error) {
        return this.emit('error', error)
      }
      if (typeof message === 'string' && message.startsWith('primus::')) return this._control(message)
      this.emit('message', message)
      const { context, messageId } = message || {}
      if (context === 'response') this._answer(messageId, message)
      else if (context === 'user') this.emit('say', message)
      else if (context === 'command' && this._handlers.size > 0) this._obey(message)
      else if (context === 'alert') this.emit('alert', message)
      else if (context === 'api' && message.welcome) {
        this.welcomeMessage = message.welcome
        this.emit('welcome', message)
      } else if (context === 'api') this.emit('api', message)
    }

    _control (text) {
      if (text.startsWith('primus::ping::')) this._socket.send(JSON.stringify(text.replace('ping', 'pong')))
      // The server says goodbye: whoever hears that does not come back.
      if (text === 'primus::server::close') this._wanted = false
    }

    _answer (messageId, answer) {
      const callback = this._waiting.get(messageId)
      this._waiting.delete(messageId)
      this._call(callback, [answer])
    }

    _lost (reason) {
      const wasConnected = this.state === 'connected'
      this.state = this._wanted ? 'reconnecting' : 'disconnected'
      this._abandon(reason)
      if (this._wanted) this._comeBack(wasConnected)
      if (wasConnected || !this._wanted) this.emit('disconnected')
      if (wasConnected) return
      const error = new Error(reason)
      this._settle(error)
      this.emit('error', error)
    }

    _comeBack (wasConnected) {
      // A server that takes clients and loses them at once is not pressed harder than one that takes none.
      if (wasConnected && Date.now() - this._connectedAt >= RECONNECT_MAX_MS) this._attempt = 0
      // Anything between nothing and the bound: whoever lost the same server does not come back at the same time.
      const bound = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** this._attempt)
      this._attempt++
      this._retry = setTimeout(() => this._open(), Math.random() * bound)
      this.emit('reconnecting')
    }

    /** Lets go of the socket, and tells whoever waits for an answer that none will come. */
    _abandon (reason) {
      clearTimeout(this._watch)
      clearTimeout(this._retry)
      const socket = this._socket
      this._socket = null
      if (socket) socket.close()
      const callbacks = [...this._waiting.values()]
      this._waiting.clear()
      if (!this._wanted) callbacks.push(...this._queue.splice(0).map((request) => request.callback))
      for (const callback of callbacks) this._call(callback, [failed(reason)])
    }
  }

  /** An answer for whoever gets none from the server. */
  function failed (error) {
    return { error, context: 'response' }
  }

  function isReply (value) {
    return typeof value === 'object' && !Array.isArray(value)
  }

  const scope = typeof exports === 'undefined' ? target : exports
  scope.ActionheroClient = ActionheroClient
  scope.actionheroClient = ActionheroClient
  scope.ActionheroWebsocketClient = ActionheroClient
})(typeof globalThis === 'undefined' ? self : globalThis)
