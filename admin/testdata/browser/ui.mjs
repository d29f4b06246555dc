// Looks at every page of the UI as a person does, in Chromium.
//   node ui.mjs URL CHROMIUM < ADMIN-TOKEN
// It writes "listening" when the page of events is open and live, then waits for
// an event with the path /live-event, and fails on whatever a browser complains
// of: an error on the console, a request to another host, or what axe finds that
// keeps people out.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const [url, executablePath] = process.argv.slice(2)
const token = readFileSync(0, 'utf8').trim()
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const limit = 20_000 // milliseconds for any one step
const complaints = []

const browser = await chromium.launch({
  executablePath, timeout: limit,
  args: ['--no-sandbox', '--disable-gpu', '--no-proxy-server', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run'],
})

async function open (options = {}) {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  page.setDefaultTimeout(limit)
  page.on('console', m => m.type() === 'error' && complaints.push(`console: ${m.text()}`))
  page.on('pageerror', e => complaints.push(`script: ${e.message}`))
  page.on('request', r => r.url().startsWith(url + '/') || r.url().startsWith('data:') || complaints.push(`another host: ${r.url()}`))
  return page
}

async function look (page, title) {
  await page.getByRole('heading', { level: 1, name: title }).waitFor()
  await page.evaluate(axe)
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    const { violations } = await page.evaluate('axe.run({ resultTypes: ["violations"] })')
    for (const v of violations) complaints.push(`${title}, ${colorScheme}: ${v.help}: ${v.nodes.map(n => n.html).join(' ')}`)
  }
}

async function signIn (page) {
  await page.goto(url + '/')
  await page.getByLabel('Admin token').fill(token)
  await page.keyboard.press('Enter')
  await page.waitForURL(url + '/')
}

let page = await open()
await page.goto(url + '/')
await look(page, 'Sign in')
await signIn(page)
await look(page, 'Overview')
await page.getByRole('link', { name: 'Connections', exact: true }).click()
await look(page, 'Connections')
await page.getByRole('link', { name: 'Explain' }).click()
await page.getByLabel('URL').fill('https://api.example.com/tickets')
await page.getByRole('button', { name: 'Explain' }).click()
await page.getByText('sent with the connection').waitFor()
await look(page, 'Explain')
const live = page.waitForResponse(url + '/events/stream')
await page.getByRole('link', { name: 'Events' }).click()
await live
await look(page, 'Events')
console.log('listening')
await page.getByText('/live-event').waitFor()

// Without scripts the pages are whole; they are only not live.
page = await open({ javaScriptEnabled: false })
await signIn(page)
await page.goto(url + '/events')
await page.getByText('/live-event').waitFor()
await page.getByRole('button', { name: 'Sign out' }).click()
await page.getByRole('heading', { name: 'Sign in' }).waitFor()

for (const c of complaints) console.error(c)
process.exitCode = complaints.length > 0 ? 1 : 0
await browser.close()
