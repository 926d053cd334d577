// The chat page that a server without a public folder shows, in a real browser, with the line protocol as other
// member of the room.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'

import { ADMIN, commandConnection } from './support/admin.js'
import { Browser } from './support/chromium.js'
import { within } from './support/deadline.js'
import { RawClient } from './support/raw.js'
import { startServer } from './support/server.js'

const ROOM = 'defaultRoom'
const NO_PUBLIC_FOLDER = { files: null }

/** What would run a script if it became more than text. */
const MARKUP = [
  '<img src=x onerror="window.ran=1">',
  '<script>window.ran=1</script>',
  '"><svg onload=window.ran=1>',
  'javascript:window.ran=1',
  '</li></ol><iframe srcdoc="<script>parent.ran=1</script>"></iframe>',
  '\u001b]0;title\u0007 \u202eright to left'
]

describe('the chat page in a browser', () => {
  let browser
  let server
  let page
  let raw

  before(async () => {
    // One after the other: of two that start together, one that comes when the other has failed is stopped by nobody.
    server = await startServer(ADMIN, NO_PUBLIC_FOLDER)
    browser = await Browser.start()
    page = await browser.open(`${server.web.origin}/`)
    await connected(page)
    raw = await RawClient.connect(server)
    assert.equal((await raw.ask(`roomAdd ${ROOM}`)).status, 'OK')
  })

  after(async () => {
    await browser?.stop()
    await raw?.quit()
    await server?.stop()
  })

  it('shows what somebody says over TCP', async () => {
    assert.equal((await raw.ask(`say ${ROOM} good evening, привет 🦀`)).status, 'OK')
    const id = await raw.id()
    assert.equal(await lineWith(page, 'good evening'), `${id.slice(0, 8)}: good evening, привет 🦀`)
  })

  it('says what somebody types', async () => {
    await say(page, 'hello from a page, 世界')
    const { message, room, from, context } = await within('the message', raw.hear())
    assert.deepEqual([message, room, context], ['hello from a page, 世界', ROOM, 'user'])
    assert.equal(await lineWith(page, 'hello from'), 'you: hello from a page, 世界')
    const { data } = await raw.ask(`roomView ${ROOM}`)
    assert.ok(data.members[from])
  })

  it('shows who is there', async () => {
    const id = await raw.id()
    const members = await page.until((id) => {
      const names = [...document.querySelectorAll('#members li')].map((one) => one.textContent)
      return names.includes(id) && names
    }, id.slice(0, 8))
    assert.deepEqual(members.sort(), [id.slice(0, 8), 'you'].sort())
  })

  it('fault_row_8_markup_that_somebody_says_stays_text', async () => {
    const elements = () => page.run(() => document.querySelectorAll(':not(#log *)').length)
    const before = await elements()
    for (const text of MARKUP) {
      assert.equal((await raw.ask(`say ${ROOM} ${text}`)).status, 'OK')
      assert.ok((await lineWith(page, text)).endsWith(`: ${text}`))
    }
    await say(page, MARKUP[0])
    assert.equal((await raw.hear()).message, MARKUP[0])
    // What would have been loaded has been by now: the server answers in order, and this asks it.
    await page.run(async () => { await (await fetch('/chat.css')).text() })
    assert.equal(await page.run(() => window.ran ?? null), null)
    const inLog = await page.run(() => [...document.querySelectorAll('#log *')].map((one) => one.localName))
    assert.deepEqual(new Set(inLog), new Set(['li', 'span']))
    assert.equal(await elements(), before)
  })

  it('tells that a room does not exist', async () => {
    await page.run(() => document.getElementById('room').focus())
    await page.type('<b>nowhere</b>')
    await page.press('Enter')
    assert.equal(await lineWith(page, 'nowhere'), '<b>nowhere</b>: room does not exist')
  })

  it('can have the script for pages of ActionHero beside it', async () => {
    const details = await page.run(async () => {
      const script = document.createElement('script')
      script.src = '/public/javascript/ActionheroWebsocketClient.min.js'
      document.head.append(script)
      await new Promise((resolve, reject) => Object.assign(script, { onload: resolve, onerror: reject }))
      const client = new window.ActionheroWebsocketClient()
      const { data } = await new Promise((resolve) => client.connect((error, details) => resolve(details)))
      client.disconnect()
      return { id: data.id, known: client.id, same: window.ActionheroClient === window.ActionheroWebsocketClient }
    })
    assert.deepEqual(details, { id: details.id, known: details.id, same: true })
  })

  it('does what the server asks for when a handler looks into the page', async () => {
    const id = await page.run(async () => {
      const { Switchboard } = await import('/javascript/switchboard.js')
      const client = window.obedient = new Switchboard()
      client.onCommand('count', ({ data }) => ({ title: document.title, found: document.querySelectorAll(data).length }))
      return (await client.connect()).id
    })
    const { status, body } = await commandConnection(server, id, { key: 'count', data: '#say' })
    assert.equal(status, 200, JSON.stringify(body))
    const title = await page.run(() => {
      window.obedient.disconnect()
      return document.title
    })
    assert.deepEqual(body.reply, { success: true, title, found: 1 })
  })

  it('lets a page learn why the server refuses it: its origin, or the reason that the server gives', async (test) => {
    const other = await startServer({ 'servers.websocket.enabled': false })
    test.after(() => other.kill())
    const connect = async (url) => {
      const { Switchboard } = await import('/javascript/switchboard.js')
      const client = new Switchboard(url)
      const told = new Promise((resolve) => client.on('error', resolve))
      const error = await client.connect().catch((error) => error)
      return [error.code, error.message, await told === error]
    }
    // A page without rules of its own about what it may load.
    const foreign = await browser.open(`${server.web.origin}/primus/spec`)
    const reason = `${other.web.origin} refuses pages of ${server.web.origin}: its servers.web.allowed_origins must list that origin`
    assert.deepEqual(await foreign.run(connect, other.web.origin), ['refused', reason, true])
    const own = await browser.open(`${other.web.origin}/primus/spec`)
    assert.deepEqual(await own.run(connect, other.web.origin), ['refused', 'no WebSocket here', true])
    await other.stop()
    const [code, message] = await own.run(connect, other.web.origin)
    assert.deepEqual([code, /^no connection to ws:.*1006/.test(message)], ['disconnected', true], message)
  })

  it('loads everything it names, and breaks no rule of its own server', () => {
    assert.deepEqual(page.complaints, [])
  })

  it('comes back to its room by itself when the server is started again', async () => {
    const { port, web } = server
    await raw.quit()
    await server.stop()
    await page.until(() => !document.getElementById('state').textContent.startsWith('connected'))
    await say(page, 'nobody is there')
    assert.match(await lineWith(page, 'not said'), /^not said: there is no connection$/)

    server = await startServer({ ...ADMIN, 'servers.socket.port': port, 'servers.web.port': web.port }, NO_PUBLIC_FOLDER)
    await connected(page)
    raw = await RawClient.connect(server)
    assert.equal((await raw.ask(`roomAdd ${ROOM}`)).status, 'OK')
    assert.equal((await raw.ask(`say ${ROOM} welcome back`)).status, 'OK')
    assert.match(await lineWith(page, 'welcome back'), /: welcome back$/)
    await page.run(() => { document.getElementById('text').value = '' })
    await say(page, 'here I am')
    assert.equal((await within('the message', raw.hear())).message, 'here I am')
  })
})

/** Waits until the page says that it is connected and in its room. */
function connected (page) {
  return page.until((room) => document.getElementById('state')?.textContent.startsWith('connected as ') &&
    document.querySelector('#rooms [aria-current]')?.textContent === room, ROOM)
}

/** Types something into the page and sends it. */
async function say (page, text) {
  await page.run(() => document.getElementById('text').focus())
  await page.type(text)
  await page.press('Enter')
}

/** The text of the log's last line that has this in it, once there is one. */
function lineWith (page, text) {
  return page.until((text) => {
    const lines = [...document.querySelectorAll('#log li')].map((line) => line.textContent)
    return lines.findLast((line) => line.includes(text))
  }, text)
}
