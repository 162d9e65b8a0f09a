// A js-libp2p peer with GossipSub and Kademlia, for testing oc-discovery's search and its DHT against
// an implementation that shares nothing with it. JSON commands on stdin, one a line; JSON events on stdout, one a
// line; see ../README.md.

import './node20.js'
import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed, publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { dhtCommands, dhtService } from './dht.js'
import {
  SEARCH, decodeEvent, encodeEvent, goTime, payloadJSON, protocolOf, questionText, signedBytes, verifyEvent
} from './event.js'

const MAX_VALUE = 16 << 20
const TOPICS = ['search', 'search#']

const { values: args } = parseArgs({
  options: {
    psk: { type: 'string' },
    'no-psk': { type: 'boolean', default: false },
    key: { type: 'string' },
    did: { type: 'string', default: randomUUID() },
    name: { type: 'string', default: 'foreign-js' },
    listen: { type: 'string', default: '/ip4/127.0.0.1/tcp/0' },
    dht: { type: 'boolean', default: false }
  }
})

function emit (event, more = {}) {
  const line = Buffer.from(JSON.stringify({ event, ...more }) + '\n')
  for (let at = 0; at < line.length;) {
    try {
      at += writeSync(1, line, at)
    } catch (err) {
      if (err.code !== 'EAGAIN') {
        process.exit(1)
      }
    }
  }
}

async function loadKey (path) {
  if (path !== undefined && !existsSync(path)) {
    const { privateKey } = generateKeyPairSync('ed25519')
    writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  }
  const key = path === undefined
    ? generateKeyPairSync('ed25519').privateKey
    : createPrivateKey(readFileSync(path))
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new Error(`${path} holds no ed25519 key`)
  }
  return generateKeyPairFromSeed('Ed25519', Buffer.from(key.export({ format: 'jwk' }).d, 'base64url'))
}

function protector () {
  if ((args.psk !== undefined) === args['no-psk']) {
    throw new Error('give --psk FILE, or --no-psk for an open network')
  }
  return args.psk === undefined ? {} : { connectionProtector: preSharedKey({ psk: readFileSync(args.psk) }) }
}

// Go's message id: the bytes of the source and of the sequence number. With the library's own,
// IHAVE and IWANT would never name the same message on both sides.
function messageId (msg) {
  const id = Buffer.alloc(8)
  id.writeBigUInt64BE(msg.sequenceNumber)
  return Buffer.concat([msg.from.toMultihash().bytes, id])
}

const privateKey = await loadKey(args.key)
const node = await createLibp2p({
  privateKey,
  addresses: { listen: args.listen === '' ? [] : [args.listen] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  ...protector(),
  services: {
    identify: identify(),
    // Only where it is asked for: it connects by itself to whomever it hears of.
    ...(args.dht ? { ping: ping(), dht: dhtService(emit) } : {}),
    pubsub: gossipsub({ msgIdFn: messageId, globalSignaturePolicy: 'StrictSign', emitSelf: false })
  }
})
const pubsub = node.services.pubsub

let last // the peer named last
let resources = []
let match = false
const published = []
const streams = new Map() // "protocol peer" -> a kept stream

function shown (e, verified) {
  return {
    from: e.from,
    type: e.type,
    user: e.user,
    datatype: e.datatype,
    ts: e.ts,
    payload: e.payload === null ? null : payloadJSON(e.payload),
    payload_b64: e.payload === null ? '' : e.payload.toString('base64'),
    signed: e.sig !== null && e.sig.length > 0,
    verified
  }
}

async function buildEvent (c) {
  const payload = c.payload_b64 !== undefined
    ? Buffer.from(c.payload_b64, 'base64')
    : c.payload === undefined ? null : Buffer.from(JSON.stringify(c.payload))
  const e = {
    type: c.type ?? c.protocol ?? 'search',
    from: c.from ?? args.did,
    user: c.user ?? '',
    datatype: c.datatype ?? 0,
    ts: c.ts ?? goTime(Date.now() - (c.age_ms ?? 0)),
    payload,
    sig: null
  }
  if (c.sign !== false) {
    e.sig = Buffer.from(await privateKey.sign(signedBytes(e)))
  }
  if (c.forge === 'sig' && e.sig !== null) {
    e.sig[0] ^= 1
  } else if (c.forge === 'payload') {
    e.payload = Buffer.from(JSON.stringify({ search: 'changed after it was signed' }))
  }
  return e
}

async function writeTo (stream, text) {
  if (!stream.send(Buffer.from(text + '\n'))) {
    await stream.onDrain()
  }
}

// Whoever asked, by gossip or by stream, is answered on one stream of its own.
async function answer (asker, question, text) {
  const list = resources.filter(({ resource }) => !match ||
    [resource.name, resource.description, resource.short_description].join('\n').toLowerCase()
      .includes(text.toLowerCase()))
  if (list.length === 0) {
    return
  }
  let count = 0
  try {
    const stream = await node.dialProtocol(asker, SEARCH)
    for (const { datatype, resource } of list) {
      const e = await buildEvent({ type: 'search', user: question.user, datatype, payload: resource })
      await writeTo(stream, encodeEvent(e))
      count++
    }
    await stream.close()
    emit('answered', { remote: asker.toString(), search: text, count })
  } catch (err) {
    emit('answered', { remote: asker.toString(), search: text, count, error: String(err.message) })
  }
}

async function onGossip ({ detail: { propagationSource, msg } }) {
  const source = msg.from
  const about = { topic: msg.topic, source: source.toString(), via: propagationSource.toString() }
  let e
  try {
    e = decodeEvent(msg.data)
  } catch (err) {
    emit('gossip', { ...about, raw_b64: Buffer.from(msg.data).toString('base64'), message: err.message })
    return
  }
  const verified = await verifyEvent(e, source.publicKey)
  emit('gossip', { ...about, ...shown(e, verified), raw_b64: Buffer.from(msg.data).toString('base64') })
  const text = questionText(e.payload)
  if (verified && text !== undefined) {
    await answer(source, e, text)
  }
}

// Values come one after the other, each with a newline behind it.
async function readStream (protocol, stream, connection) {
  const remote = connection.remotePeer
  const about = { protocol: protocol.split('/')[3], remote: remote.toString(), dir: 'in' }
  emit('stream_open', about)
  let half = Buffer.alloc(0)
  try {
    for await (const chunk of stream) {
      half = Buffer.concat([half, chunk.subarray()])
      if (half.length > MAX_VALUE) {
        throw new Error('a value is larger than this peer reads')
      }
      for (let end = half.indexOf(10); end >= 0; end = half.indexOf(10)) {
        const line = half.subarray(0, end)
        half = half.subarray(end + 1)
        const e = decodeEvent(line)
        emit('received', { ...about, ...shown(e, await verifyEvent(e, remote.publicKey)) })
        const text = protocol === SEARCH ? questionText(e.payload) : undefined
        if (text !== undefined) {
          answer(remote, e, text)
        }
      }
    }
    await stream.close()
    emit('stream_end', { ...about, how: 'eof' })
  } catch (err) {
    stream.abort(err)
    emit('stream_end', { ...about, how: err.name === 'StreamResetError' ? 'reset' : 'error', message: err.message })
  }
}

async function target (c) {
  if (c.addr === undefined) {
    if (last === undefined) {
      throw new Error('no peer was named yet: give `addr`')
    }
  } else if (c.addr.startsWith('/')) {
    const addr = multiaddr(c.addr)
    const part = addr.getComponents().findLast(({ name }) => name === 'p2p')
    if (part?.value === undefined) {
      throw new Error('`addr` does not end in /p2p/<PeerId>')
    }
    last = peerIdFromString(part.value)
    await node.peerStore.merge(last, { multiaddrs: [addr] })
  } else {
    last = peerIdFromString(c.addr)
  }
  return last
}

// One kept stream for each (protocol, peer), opened anew once it has failed.
async function keptStream (remote, protocol) {
  const key = `${protocol} ${remote}`
  const kept = streams.get(key)
  if (kept !== undefined && kept.writeStatus === 'writable') {
    return kept
  }
  const stream = await node.dialProtocol(remote, protocol)
  stream.addEventListener('close', ({ error }) => {
    emit('stream_end', {
      protocol: protocol.split('/')[3],
      remote: remote.toString(),
      dir: 'out',
      how: error === undefined ? 'eof' : 'reset',
      message: error?.message
    })
  })
  streams.set(key, stream)
  return stream
}

const commands = {
  async connect (c) {
    const remote = await target(c)
    await node.dial(remote, { signal: AbortSignal.timeout(10_000) })
    return { remote: remote.toString() }
  },
  async disconnect (c) {
    const remote = await target(c)
    await node.hangUp(remote)
    return { remote: remote.toString() }
  },
  async subscribe (c) {
    pubsub.subscribe(c.topic)
  },
  async unsubscribe (c) {
    pubsub.unsubscribe(c.topic)
  },
  async publish (c) {
    let bytes
    if (c.replay !== undefined) {
      bytes = published[c.replay]
      if (bytes === undefined) {
        throw new Error(`nothing was published as ${c.replay}`)
      }
    } else if (c.raw_b64 !== undefined) {
      bytes = Buffer.from(c.raw_b64, 'base64')
    } else {
      bytes = Buffer.from(encodeEvent(await buildEvent(c)))
    }
    const { recipients } = await pubsub.publish(c.topic ?? 'search', bytes)
    published.push(bytes)
    return {
      publication: published.length - 1,
      recipients: recipients.map((id) => id.toString()),
      raw_b64: bytes.toString('base64')
    }
  },
  async send (c) {
    const remote = await target(c)
    const stream = await keptStream(remote, protocolOf(c.protocol))
    await writeTo(stream, encodeEvent(await buildEvent(c)))
    return { remote: remote.toString() }
  },
  async close_stream (c) {
    const key = `${protocolOf(c.protocol)} ${await target(c)}`
    const stream = streams.get(key)
    if (stream === undefined) {
      throw new Error(`no ${c.protocol} stream is kept to that peer`)
    }
    streams.delete(key)
    await stream.close()
  },
  async resources (c) {
    resources = c.list ?? []
    match = c.match === true
    return { count: resources.length }
  },
  async status () {
    const topics = {}
    for (const topic of pubsub.getTopics()) {
      topics[topic] = {
        subscribers: pubsub.getSubscribers(topic).map((id) => id.toString()),
        mesh: pubsub.getMeshPeers(topic)
      }
    }
    return { peers: node.getPeers().map((id) => id.toString()), topics }
  },
  async exit () {},
  ...(args.dht
    ? dhtCommands(node.services.dht, privateKey, {
      name: args.name, did: args.did, address: () => node.getMultiaddrs().map(String).join(',')
    })
    : {})
}

async function run (line) {
  let c
  try {
    c = JSON.parse(line)
  } catch (err) {
    emit('error', { cmd: '', message: 'the command is not JSON: ' + err.message })
    return
  }
  const about = { cmd: c.cmd, ...(c.ref === undefined ? {} : { ref: c.ref }) }
  try {
    if (!Object.hasOwn(commands, c.cmd)) {
      throw new Error(`unknown command ${c.cmd}`)
    }
    emit('ok', { ...await commands[c.cmd](c), ...about })
  } catch (err) {
    emit('error', { message: String(err.message ?? err), name: err.name, ...about })
  }
  if (c.cmd === 'exit') {
    process.exit(0)
  }
}

node.addEventListener('connection:open', ({ detail: c }) => emit('connected', {
  remote: c.remotePeer.toString(), addr: c.remoteAddr.toString(), dir: c.direction === 'inbound' ? 'in' : 'out'
}))
node.addEventListener('connection:close', ({ detail: c }) => emit('disconnected', {
  remote: c.remotePeer.toString(), left: node.getConnections(c.remotePeer).length
}))
pubsub.addEventListener('subscription-change', ({ detail }) => {
  for (const { topic, subscribe } of detail.subscriptions) {
    emit('subscription', { remote: detail.peerId.toString(), topic, subscribed: subscribe })
  }
})
pubsub.addEventListener('gossipsub:graft', ({ detail }) => emit('graft', { remote: detail.peerId, topic: detail.topic }))
pubsub.addEventListener('gossipsub:prune', ({ detail }) => emit('prune', { remote: detail.peerId, topic: detail.topic }))
pubsub.addEventListener('gossipsub:message', (event) => { onGossip(event) })
for (const kind of ['create', 'update', 'delete', 'considers', 'planner', 'search']) {
  const protocol = protocolOf(kind)
  // The library's own bound is 32 at a time: streams that come faster than their ends are noticed would be reset.
  const bounds = { maxInboundStreams: 1024, maxOutboundStreams: 1024 }
  await node.handle(protocol, (stream, connection) => { readStream(protocol, stream, connection) }, bounds)
}
TOPICS.forEach((topic) => pubsub.subscribe(topic))

emit('ready', {
  peer_id: node.peerId.toString(),
  public_key: Buffer.from(publicKeyToProtobuf(privateKey.publicKey)).toString('base64'),
  addrs: node.getMultiaddrs().map((addr) => addr.toString()),
  did: args.did,
  name: args.name,
  pid: process.pid
})

process.on('SIGTERM', () => process.exit(0))
process.on('SIGINT', () => process.exit(0))
let turn = Promise.resolve()
const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => { if (line.trim() !== '') turn = turn.then(() => run(line)) })
lines.on('close', () => { turn.then(() => process.exit(0)) })
