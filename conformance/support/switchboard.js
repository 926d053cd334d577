// Our own client for web pages, from where the server has it. It is loaded as a browser loads it, for what it says and not for
// where it is: older versions of node take a file for a module only when a package beside it says so.

import { readFileSync } from 'node:fs'

const source = readFileSync(new URL('../../crates/switchboard/assets/javascript/switchboard.js', import.meta.url))

export const { Switchboard, SwitchboardError } = await import(`data:text/javascript;base64,${source.toString('base64')}`)
