// A chat in one page. Whatever others have said is shown as text: nothing here makes HTML out of it.

import { Switchboard } from '/javascript/switchboard.js'

/** How many lines of a room are kept. */
const MAX_LINES = 500
/** Time between attempts to connect. */
const CONNECT_MS = 5_000
/** How often the list of members is read again: the server does not tell who comes and goes. */
const MEMBERS_MS = 5_000

const [state, rooms, members, log, joinForm, roomInput, sayForm, textInput] =
  ['state', 'rooms', 'members', 'log', 'join', 'room', 'say', 'text'].map((id) => document.getElementById(id))

const client = new Switchboard()
/** The lines of each room, in the order of joining. */
const logs = new Map()
/** The room that is shown, and who was in it when that was read last. */
let shown = null
let present = new Set()

client.on('connected', ({ id }) => {
  show(`connected as ${short(id)}`)
  refresh()
})
client.on('disconnected', ({ reconnect }) => show(reconnect ? 'connection lost' : 'disconnected'))
client.on('reconnecting', ({ delay }) => show(`connecting again in ${Math.ceil(delay / 1000)} s`))
client.on('say', ({ room, from, message, sentAt }) => {
  // One's own words are shown once the server has taken them. Some servers repeat them to who said them.
  if (from === client.id) return
  line(room, from, message, sentAt)
  if (room === shown && !present.has(from)) refresh()
})
client.on('gap', ({ room }) => line(room, null, 'some messages were lost here'))
client.on('error', ({ message }) => {
  // While there is no connection at all, its state says why.
  if (client.state !== 'disconnected') line(shown, null, message)
})

joinForm.addEventListener('submit', (event) => {
  event.preventDefault()
  join(roomInput.value)
  roomInput.value = ''
})

sayForm.addEventListener('submit', async (event) => {
  event.preventDefault()
  const [room, text] = [shown, textInput.value]
  try {
    await client.say(room, text)
    line(room, client.id, text)
    // What was typed meanwhile stays.
    if (textInput.value === text) textInput.value = ''
  } catch (error) {
    line(room, null, `not said: ${error.message}`)
  }
})

setInterval(refresh, MEMBERS_MS)
await connect()
await join('defaultRoom')

/** Tries until there is a connection. Later the client reconnects without this. */
async function connect () {
  for (;;) {
    show('connecting')
    try {
      return await client.connect()
    } catch (error) {
      show(`${error.message}; next attempt in ${CONNECT_MS / 1000} s`)
      await new Promise((resolve) => setTimeout(resolve, CONNECT_MS))
    }
  }
}

async function join (room) {
  try {
    await client.join(room)
    if (!logs.has(room)) logs.set(room, [])
    enter(room)
  } catch (error) {
    line(shown, null, `${room}: ${error.message}`)
  }
}

async function leave (room) {
  try {
    await client.leave(room)
  } catch (error) {
    line(room, null, error.message)
  }
  logs.delete(room)
  enter(room === shown ? logs.keys().next().value ?? null : shown)
}

function enter (room) {
  shown = room
  rooms.replaceChildren(...[...logs.keys()].map((name) => {
    const open = button(name, () => enter(name))
    if (name === room) open.setAttribute('aria-current', 'true')
    return element('li', open, button('leave', () => leave(name)))
  }))
  log.replaceChildren(...logs.get(room) ?? [])
  log.scrollTop = log.scrollHeight
  refresh()
}

/** Reads who is in the room that is shown. */
async function refresh () {
  const room = shown
  if (room === null) return members.replaceChildren()
  if (client.state !== 'connected') return
  try {
    const view = await client.room(room)
    if (room !== shown) return
    present = new Set(Object.keys(view.members))
    members.replaceChildren(...[...present].map((id) => element('li', name(id))))
  } catch (error) {
    if (room === shown) members.replaceChildren(element('li', error.message))
  }
}

/** Adds a line to a room's log; without a speaker it is a notice. */
function line (room, from, message, sentAt = Date.now()) {
  const text = typeof message === 'string' ? message : JSON.stringify(message)
  const said = element('li', ...from === null ? [text] : [part('from', `${name(from)}: `), text])
  said.title = new Date(sentAt).toLocaleTimeString()
  if (from === null) said.className = 'notice'
  const lines = logs.get(room) ?? []
  lines.push(said)
  if (lines.length > MAX_LINES) lines.shift().remove()
  if (room !== shown) return
  log.append(said)
  log.scrollTop = log.scrollHeight
}

function name (id) {
  if (id === 0) return 'server'
  return id === client.id ? 'you' : short(String(id))
}

/** Enough of an id to tell people apart. */
function short (id) {
  return id.slice(0, 8)
}

function show (text) {
  state.textContent = text
}

/** An element with these children; what is no element becomes text. */
function element (kind, ...children) {
  const made = document.createElement(kind)
  made.append(...children)
  return made
}

function part (className, text) {
  const made = element('span', text)
  made.className = className
  return made
}

function button (text, act) {
  const made = element('button', text)
  made.type = 'button'
  made.addEventListener('click', act)
  return made
}
