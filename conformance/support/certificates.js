// Certificates as people make them: with the openssl command.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Ways to make a private key, and so the forms of PEM that a server must read: the words that write one to `path`. */
export const KEY_KINDS = {
  'PKCS #8, EC': (path) => ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', path],
  'PKCS #8, RSA': (path) => ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', path],
  'PKCS #8, Ed25519': (path) => ['genpkey', '-algorithm', 'ED25519', '-out', path],
  'PKCS #1, RSA': (path) => ['genrsa', '-traditional', '-out', path, '2048'],
  'SEC 1, EC': (path) => ['ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', path]
}

export class Authority {
  /** An authority that keeps its files in `folder`, all beginning with `name`. */
  constructor (folder, name = 'authority') {
    this.folder = folder
    this.key = join(folder, `${name}-key.pem`)
    this.cert = join(folder, `${name}-cert.pem`)
    makeKey(this.key)
    openssl('req', '-x509', '-new', '-key', this.key, '-out', this.cert, '-subj', `/CN=${name}`, '-days', '2',
      '-addext', 'keyUsage=critical,keyCertSign')
    this.pem = readFileSync(this.cert)
  }

  /** A key and a certificate that this authority has signed: files, and their texts. */
  issue (name, keyKind) {
    const path = (what) => join(this.folder, `${name}-${what}`)
    const [key, request, extensions, cert] = ['key.pem', 'request.pem', 'extensions', 'cert.pem'].map(path)
    makeKey(key, keyKind)
    writeFileSync(extensions, 'basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n')
    openssl('req', '-new', '-key', key, '-out', request, '-subj', `/CN=${name}`)
    openssl('x509', '-req', '-in', request, '-CA', this.cert, '-CAkey', this.key, '-CAcreateserial', '-out', cert,
      '-days', '2', '-extfile', extensions)
    return { key, cert, pem: { key: readFileSync(key), cert: readFileSync(cert) } }
  }
}

function makeKey (path, kind = 'PKCS #8, EC') {
  openssl(...KEY_KINDS[kind](path))
}

function openssl (...words) {
  execFileSync('openssl', words, { stdio: 'pipe' })
}
