// The description of the admin API, judged by validators of others: it is OpenAPI 3.1, its examples are what its schemas
// say, and so is what the server answers.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { Validator } from '@seriousme/openapi-schema-validator'
import Ajv2020 from 'ajv/dist/2020.js'

import { ADMIN, ask as askAdmin } from './support/admin.js'
import { RawClient } from './support/raw.js'
import { startServer } from './support/server.js'

describe('the description of the admin API', () => {
  let server
  let client
  let id
  let api
  let ajv

  const ask = (...words) => askAdmin(server, ...words)

  const judge = (pointer, value, name) => {
    const validate = ajv.compile({ $ref: `api#${pointer}` })
    assert.ok(validate(value), `${name}: ${ajv.errorsText(validate.errors)}\n${JSON.stringify(value)}`)
  }

  /** Replies to so many commands. */
  const replyTo = async (count) => {
    while (count > 0) {
      const line = await client.hear()
      if (line.context !== 'command') continue
      assert.equal((await client.ask(`replyClientCommand ${line._id} {"success":true}`)).data, true)
      count--
    }
  }

  const escape = (part) => part.replaceAll('~', '~0').replaceAll('/', '~1')

  before(async () => {
    server = await startServer({ ...ADMIN, users: '[{ id = "u1", username = "ann", password = "secret" }]' })
    client = await RawClient.connect(server)
    id = await client.id()
    api = JSON.parse((await ask('GET', '/v1/openapi.json')).text)
    // What a schema of OpenAPI may say besides JSON Schema (example) is not known to it.
    ajv = new Ajv2020({ strict: false, validateFormats: false })
    ajv.addSchema(api, 'api')
  })

  after(async () => {
    await client?.quit()
    await server?.stop()
  })

  it('is OpenAPI 3.1', async () => {
    const validator = new Validator()
    const { valid, errors } = await validator.validate(structuredClone(api))
    assert.ok(valid, JSON.stringify(errors, null, 2))
    assert.equal(validator.version, '3.1')
  })

  it('has examples that are what its schemas say', () => {
    const schemas = Object.entries(api.components.schemas).filter(([, schema]) => schema.example !== undefined)
    assert.ok(schemas.length > 10, `${schemas.length} examples`)
    for (const [name, schema] of schemas) judge(`/components/schemas/${name}`, schema.example, name)
  })

  it('describes every body that may be sent by an example', () => {
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, { requestBody }] of Object.entries(item)) {
        if (requestBody === undefined) continue
        const { $ref } = requestBody.content['application/json'].schema
        const schema = api.components.schemas[$ref.split('/').at(-1)]
        assert.ok(schema.example !== undefined, `${method} ${path}`)
        assert.equal(schema.additionalProperties, false, `${method} ${path}`)
      }
    }
  })

  it('says what the server answers', async () => {
    const seen = new Set()
    const all = [
      ['GET', '/livez'],
      ['GET', '/readyz'],
      ['GET', '/metrics'],
      ['GET', '/v1/openapi.json'],
      ['GET', '/v1/node'],
      ['GET', '/v1/nodes'],
      ['POST', '/v1/rooms', { room: 'lobby' }],
      ['POST', '/v1/rooms', { room: 'lobby' }],
      ['POST', '/v1/rooms', { room: '' }],
      ['GET', '/v1/rooms?limit=1', undefined, '/v1/rooms'],
      ['PUT', `/v1/rooms/lobby/members/${id}`, undefined, '/v1/rooms/{room}/members/{connection_id}'],
      ['PUT', `/v1/rooms/lobby/members/${id}`, undefined, '/v1/rooms/{room}/members/{connection_id}'],
      ['GET', '/v1/rooms/lobby', undefined, '/v1/rooms/{room}'],
      ['POST', '/v1/rooms/lobby/broadcast', { message: { a: 1 } }, '/v1/rooms/{room}/broadcast'],
      ['POST', '/v1/rooms/lobby/broadcast', { message: null }, '/v1/rooms/{room}/broadcast'],
      ['PATCH', `/v1/connections/${id}`, { state: { a: true, b: 'b', c: 1.5 }, user: 'u1', tags: ['t'] }, '/v1/connections/{id}'],
      ['GET', `/v1/connections/${id}`, undefined, '/v1/connections/{id}'],
      ['GET', '/v1/connections'],
      ['PUT', '/v1/rooms/lobby/auth', { key: 'a', value: true }, '/v1/rooms/{room}/auth'],
      ['PATCH', `/v1/connections/${id}`, { state: { a: null }, reauthenticate: true }, '/v1/connections/{id}'],
      ['PUT', `/v1/rooms/lobby/members/${id}`, undefined, '/v1/rooms/{room}/members/{connection_id}'],
      ['POST', `/v1/connections/${id}/reauthenticate`, undefined, '/v1/connections/{id}/reauthenticate'],
      ['DELETE', '/v1/rooms/lobby/auth', undefined, '/v1/rooms/{room}/auth'],
      ['DELETE', `/v1/rooms/lobby/members/${id}`, undefined, '/v1/rooms/{room}/members/{connection_id}'],
      ['POST', `/v1/connections/${id}/message`, { message: 'hello' }, '/v1/connections/{id}/message'],
      ['POST', '/v1/commands', { target: { connection: id }, command: { key: 'k' } }],
      ['POST', '/v1/commands', { target: { all: true }, command: { key: 'k', n: 1.5 }, sender: 'operator' }],
      ['POST', '/v1/commands', { target: { tag: 'none' }, command: { key: 'k' }, fail_fast: true }],
      ['POST', '/v1/commands', { target: { connection: id }, command: { key: 'not announced' }, require_capability: true, fail_fast: true }],
      ['POST', '/v1/commands', { target: { user: 'nobody' }, command: { key: 'k' } }],
      ['POST', '/v1/commands', { target: {}, command: { key: 'k' } }],
      ['GET', '/v1/commands?state=settled&limit=2', undefined, '/v1/commands'],
      ['GET', '/v1/commands'],
      ['DELETE', '/v1/commands/none', undefined, '/v1/commands/{id}'],
      ['GET', `/v1/connections/${id}`, undefined, '/v1/connections/{id}'],
      ['GET', '/v1/gateway/sessions'],
      ['DELETE', '/v1/gateway/sessions/none', undefined, '/v1/gateway/sessions/{shard_hash}'],
      ['DELETE', '/v1/rooms/lobby', undefined, '/v1/rooms/{room}'],
      ['DELETE', '/v1/rooms/lobby', undefined, '/v1/rooms/{room}'],
      ['DELETE', '/v1/users/u1/tokens', undefined, '/v1/users/{user}/tokens'],
      ['DELETE', '/v1/users/nobody/tokens', undefined, '/v1/users/{user}/tokens'],
      ['DELETE', '/v1/connections/nobody', undefined, '/v1/connections/{id}']
    ]
    await client.ask('setCustomClientData {"commands":["k"],"framework":"own"}')
    const replied = replyTo(2)
    for (const [method, path, body, route = path] of all) {
      const name = `${method} ${path}`
      const answer = await ask(method, path, body)
      const described = api.paths[route][method.toLowerCase()].responses[answer.status]
      assert.ok(described, `${name}: ${answer.status} is not described`)
      const [type] = Object.keys(described.content)
      assert.equal(answer.type.split(';')[0], type, name)
      if (type === 'application/json') {
        const pointer = ['paths', route, method.toLowerCase(), 'responses', String(answer.status), 'content', type, 'schema']
        judge(pointer.map((part) => `/${encodeURIComponent(escape(part))}`).join(''), JSON.parse(answer.text), name)
      }
      seen.add(`${method} ${route}`)
    }
    await replied
    const routes = Object.entries(api.paths).flatMap(([path, item]) => Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`))
    assert.deepEqual([...seen].sort(), routes.sort(), 'every route was asked')
  })
})
