// A server for clients that speak DDP: some users, a room, and an admin API to send commands with.

import { ADMIN } from './admin.js'
import { startServer } from './server.js'

/** The password of everybody. */
export const PASSWORD = 'secret'

export const ROOM = 'general'

/** The user id of a name. */
export const userId = (name) => `id-of-${name}`

/** Starts a server that knows the users of these names, all of them bots. */
export function startDdpServer (names, settings = {}) {
  const users = names.map((name) => {
    return `{ id = "${userId(name)}", username = "${name}", password = "${PASSWORD}", roles = ["bot"] }`
  })
  return startServer({
    ...ADMIN,
    users: `[${users.join(', ')}]`,
    'rooms.starting': `[{ name = "${ROOM}" }]`,
    ...settings
  })
}
