// A process of its own for a client over TLS: the clients have no setting for an authority, but node has one for the
// whole process (NODE_EXTRA_CA_CERTS). Words: the client's place in the list, the port.

import assert from 'node:assert/strict'

import { CLIENTS, open } from './clients.js'

const [which, port] = process.argv.slice(2).map(Number)
const client = await open(CLIENTS[which], { host: '127.0.0.1', port }, { secure: true })
assert.equal(client.client.connection.authorized, true)
assert.equal(client.welcome, 'Hello! Welcome to the actionhero api')
const { data } = await client.call('actionWithParams', 'cacheTest', { key: 'k', value: 'secret' })
assert.equal(data.cacheTestResults.loadResp.value, 'secret')
const { error } = await client.call('action', 'noSuchAction')
assert.match(error.message, /unknown action/)
await client.call('roomAdd', 'defaultRoom')
assert.equal((await client.call('say', 'defaultRoom', 'hello')).error, null)
await client.close()
assert.deepEqual(client.complaints, [])
