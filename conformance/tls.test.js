// The line protocol over TLS: node's client as in the documentation, the pinned clients, openssl; client certificates;
// and starts that must fail with a reason.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import net from 'node:net'
import tls from 'node:tls'
import { fileURLToPath } from 'node:url'

import { Authority, KEY_KINDS } from './support/certificates.js'
import { CLIENTS } from './support/clients.js'
import { emitted, within } from './support/deadline.js'
import { RawClient } from './support/raw.js'
import { run, startServer, temporaryFolder } from './support/server.js'

const WELCOME = { welcome: 'Hello! Welcome to the actionhero api', context: 'api' }

describe('TLS', () => {
  let folder
  let authority
  let pair

  before(() => {
    folder = temporaryFolder()
    authority = new Authority(folder.path)
    pair = authority.issue('server')
  })
  after(() => folder.remove())

  const settings = ({ cert, key }, others = {}) => ({
    'servers.socket.secure': true, 'servers.socket.tls.cert': cert, 'servers.socket.tls.key': key, ...others
  })
  const connect = (server, options = {}) => tls.connect(server.port, { host: '127.0.0.1', ca: authority.pem, ...options })

  it('serves the client of the documentation', async () => {
    const server = await startServer(settings(pair))
    // As it is written there: key and certificate of the server, and nothing that says whom to trust.
    const options = { ...pair.pem, rejectUnauthorized: false }
    const stream = await new Promise((resolve) => {
      const stream = tls.connect(server.port, options, () => resolve(stream))
    })
    assert.equal(stream.authorized, false)
    const client = new RawClient(stream)
    assert.deepEqual(await client.hear(), WELCOME)
    const { data } = await client.ask('detailsView')
    assert.deepEqual([data.remoteIP, data.remotePort], ['127.0.0.1', stream.localPort])
    assert.equal((await client.ask('randomNumber')).messageCount, 2)
    assert.deepEqual(await client.quit(), { status: 'Bye!', context: 'api' })
    await server.stop()
  })

  for (const kind of Object.keys(KEY_KINDS)) {
    it(`reads a key of the form ${kind}, and is trusted by who trusts the authority`, async () => {
      const server = await startServer(settings(authority.issue('other', kind)))
      const stream = connect(server)
      const client = new RawClient(stream)
      assert.deepEqual(await client.hear(), WELCOME)
      assert.equal(stream.authorized, true)
      await client.quit()
      await server.stop()
    })
  }

  it('speaks TLS 1.2 and 1.3 and nothing older', async () => {
    const server = await startServer(settings(pair))
    for (const version of ['TLSv1.2', 'TLSv1.3']) {
      const stream = connect(server, { minVersion: version, maxVersion: version })
      const client = new RawClient(stream)
      await client.hear()
      assert.equal(stream.getProtocol(), version)
      await client.quit()
    }
    const old = connect(server, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' })
    await emitted(old, 'error')
    await server.stop()
  })

  it('carries chat between TLS connections, and long texts in both directions', async () => {
    const server = await startServer(settings(pair))
    const [speaker, listener] = [new RawClient(connect(server)), new RawClient(connect(server))]
    for (const client of [speaker, listener]) {
      await client.hear()
      assert.equal((await client.ask('roomAdd defaultRoom')).status, 'OK')
    }
    // Longer than a TLS record.
    const text = 'текст '.repeat(5000)
    for (const answer of speaker.askAll([`say defaultRoom ${text}`, 'say defaultRoom short'])) {
      assert.equal((await answer).status, 'OK')
    }
    assert.equal((await listener.hear()).message, text)
    assert.equal((await listener.hear()).message, 'short')
    await speaker.quit()
    await listener.quit()
    await server.stop()
  })

  CLIENTS.forEach((kind, index) => {
    it(`serves ${kind.name}`, async () => {
      const server = await startServer(settings(pair))
      const program = fileURLToPath(new URL('support/secure-client.js', import.meta.url))
      const env = { ...process.env, NODE_EXTRA_CA_CERTS: authority.cert }
      await outcome(process.execPath, [program, String(index), String(server.port)], { env })
      await server.stop()
    })
  })

  it('serves openssl s_client', async () => {
    const server = await startServer(settings(pair))
    const words = ['s_client', '-connect', `127.0.0.1:${server.port}`, '-quiet', '-CAfile', authority.cert,
      '-verify_return_error']
    const output = await outcome('openssl', words, {}, 'detailsView\r\nquit\r\n')
    const lines = output.trim().split('\r\n').map((line) => JSON.parse(line))
    assert.deepEqual([lines[0], lines[2]], [WELCOME, { status: 'Bye!', context: 'api' }])
    assert.deepEqual([lines[1].status, lines[1].data.remoteIP, lines[1].messageCount], ['OK', '127.0.0.1', 1])
    await server.stop()
  })

  it('does not talk to clients that do not encrypt, and goes on', async () => {
    const server = await startServer(settings(pair))
    const plain = net.connect(server.port, '127.0.0.1')
    let received = ''
    plain.setEncoding('latin1').on('data', (text) => { received += text }).on('error', () => {})
    const closed = emitted(plain, 'close')
    plain.write('detailsView\r\n')
    await closed
    assert.doesNotMatch(received, /welcome|status/)
    const client = new RawClient(connect(server))
    assert.deepEqual(await client.hear(), WELCOME)
    await client.quit()
    await server.stop()
  })

  it('takes a new certificate on HUP, for new connections', async () => {
    const [first, second] = [authority.issue('first'), authority.issue('second')]
    const live = { cert: join(folder.path, 'live-cert.pem'), key: join(folder.path, 'live-key.pem') }
    const install = (pair) => ['cert', 'key'].forEach((what) => copyFileSync(pair[what], live[what]))
    install(first)
    const server = await startServer(settings(live))
    const name = async () => {
      const stream = connect(server)
      const client = new RawClient(stream)
      await client.hear()
      const { CN } = stream.getPeerCertificate().subject
      return { CN, client }
    }
    const before = await name()
    assert.equal(before.CN, 'first')

    // A broken pair changes nothing.
    copyFileSync(second.key, live.key)
    server.hangUp()
    await server.logged(/certificates stay as they are/)
    const meanwhile = await name()
    assert.equal(meanwhile.CN, 'first')

    install(second)
    server.hangUp()
    await server.logged(/certificates read again/)
    const afterwards = await name()
    assert.equal(afterwards.CN, 'second')
    for (const { client } of [before, meanwhile, afterwards]) {
      assert.equal((await client.ask('detailsView')).status, 'OK')
      await client.quit()
    }
    await server.stop({ errors: /certificates stay as they are/ })
  })

  describe('with client certificates', () => {
    let server
    before(async () => {
      server = await startServer(settings(pair, { 'servers.socket.tls.client_ca': authority.cert }))
    })
    after(() => server.stop())

    /** The connection must end before anything of the protocol was said. */
    const refused = async (options) => {
      const stream = connect(server, options)
      let received = ''
      stream.on('data', (data) => { received += data })
      const error = new Promise((resolve) => stream.once('error', resolve))
      const { code } = await within('the refusal', error)
      assert.equal(received, '')
      return code
    }

    it('accepts one that the authority has signed', async () => {
      const client = new RawClient(connect(server, authority.issue('client').pem))
      assert.deepEqual(await client.hear(), WELCOME)
      assert.equal((await client.ask('detailsView')).status, 'OK')
      await client.quit()
    })

    it('refuses a client without one', async () => {
      assert.match(await refused({}), /CERTIFICATE_REQUIRED/)
      assert.match(await refused({ maxVersion: 'TLSv1.2' }), /ALERT|HANDSHAKE|CERTIFICATE/)
    })

    it('refuses one that somebody else has signed', async () => {
      const stranger = new Authority(folder.path, 'stranger').issue('strangers-client')
      assert.match(await refused(stranger.pem), /ALERT|UNKNOWN_CA|CERT/)
    })
  })

  describe('does not start', () => {
    const fails = async (text, all) => {
      const words = Object.entries({ 'servers.socket.port': 0, ...all }).flatMap(([key, value]) => ['--set', `${key}=${value}`])
      const { code, stdout, stderr } = await run(['serve', ...words])
      assert.equal(code, 2, stderr)
      assert.equal(stdout, '')
      assert.match(stderr, text)
    }

    it('with a certificate that belongs to another key', async () => {
      const other = authority.issue('mismatch')
      await fails(
        /servers\.socket\.tls\.cert and tls\.key do not fit together/, settings({ cert: pair.cert, key: other.key }))
    })

    it('without a key', () => fails(/tls\.key/, { 'servers.socket.secure': true, 'servers.socket.tls.cert': pair.cert }))

    it('without a certificate', () => fails(/tls\.cert/, { 'servers.socket.secure': true, 'servers.socket.tls.key': pair.key }))

    it('with a file that is not there', async () => {
      await fails(/tls\.cert = "\/no\/such\/file\.pem".*No such file/, settings({ cert: '/no/such/file.pem', key: pair.key }))
    })

    it('with a file that holds something else', async () => {
      const wrong = join(folder.path, 'wrong.pem')
      writeFileSync(wrong, 'not a certificate\n')
      await fails(/tls\.cert.*wrong\.pem.*holds no/, settings({ cert: wrong, key: pair.key }))
      await fails(/tls\.key.*wrong\.pem.*holds no/, settings({ cert: pair.cert, key: wrong }))
      await fails(/tls\.client_ca.*wrong\.pem.*holds no/, settings(pair, { 'servers.socket.tls.client_ca': wrong }))
    })
  })
})

/** What a program writes to standard output; fails with what it writes to standard error. */
function outcome (program, words, options, input = '') {
  return within(program, new Promise((resolve, reject) => {
    const child = execFile(program, words, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} ended with ${error.code}: ${stderr}`))
      else resolve(stdout)
    })
    child.stdin.end(input)
  }))
}
