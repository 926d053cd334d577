// Three generations of clients: together on a server that serves them all, and each on one of its own generation.

import { CLIENTS } from './support/clients.js'
import { suite } from './support/suite.js'

const [client4, client6, nodeClient8] = CLIENTS

suite('auto', CLIENTS)
suite('classic', [client4, client6])
suite('modern', [nodeClient8])
