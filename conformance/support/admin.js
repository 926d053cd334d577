// The admin API, as scripts use it.

import { within } from './deadline.js'

const TOKEN = 'correct-horse-battery-staple'

/** What a server must be started with. */
export const ADMIN = { 'admin.enabled': true, 'admin.port': 0, 'admin.token': TOKEN }

/** Asks, and gives `{status, type, text}`. */
export async function ask (server, method, path, body) {
  const headers = { authorization: `Bearer ${TOKEN}` }
  if (body !== undefined) headers['content-type'] = 'application/json'
  const request = fetch(`http://${server.admin}${path}`, { method, headers, body: JSON.stringify(body) })
  const answer = await within(`the answer to ${method} ${path}`, request)
  return { status: answer.status, type: answer.headers.get('content-type'), text: await answer.text() }
}

/** Sends a command to a user, and gives `{status, body}` once its outcome is known. */
export function command (server, user, command, options) {
  return send(server, { user }, command, options)
}

/** The same for one connection. */
export function commandConnection (server, connection, command, options) {
  return send(server, { connection }, command, options)
}

async function send (server, target, command, options) {
  const { status, text } = await ask(server, 'POST', '/v1/commands', { target, command, ...options })
  return { status, body: JSON.parse(text) }
}
