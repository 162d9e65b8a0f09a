// Kademlia under the federation's protocol, and the commands that use it. What others put here is told and kept as it is: whether
// it is right is for the side under test to find out.

import { createHash } from 'node:crypto'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { CID } from 'multiformats/cid'
import { create as multihash } from 'multiformats/hashes/digest'
import { makeRecord, readRecord } from './record.js'

const PROTOCOL = '/oc/kad/1.0.0'
const QUERY_MS = 5_000
const RAW = 0x55

const keyOf = (did) => Buffer.from(`/node/${did}`)
const within = () => ({ signal: AbortSignal.timeout(QUERY_MS) })

// Of several records the one that ends last.
async function newest (key, values) {
  const ends = await Promise.all(values.map(async (value) => (await readRecord(value)).record?.expiry_date ?? ''))
  return ends.indexOf(ends.toSorted().at(-1))
}

export function dhtService (emit) {
  const tell = async (key, value) => {
    const { record, verified } = await readRecord(value)
    emit('dht_kept', { key: Buffer.from(key).toString('utf8'), did: record?.did, verified })
  }
  return kadDHT({
    protocol: PROTOCOL,
    clientMode: false,
    peerInfoMapper: passthroughMapper,
    allowQueryWithZeroPeers: true,
    validators: { node: tell },
    selectors: { node: newest }
  })
}

async function collect (events, name) {
  const found = []
  try {
    for await (const event of events) {
      if (event.name === name) {
        found.push(event)
      }
    }
  } catch (err) {
    if (err.name !== 'TimeoutError' && err.name !== 'AbortError') {
      throw err
    }
  }
  return found
}

export function dhtCommands (dht, privateKey, about) {
  return {
    // A record of this peer, or any text, under the key of a DID: here, and on the nodes nearest to it.
    async dht_put (c) {
      const fields = { name: about.name, did: about.did, stream_address: about.address(), ...c.fields }
      let value = c.text ?? await makeRecord(privateKey, fields, c.life_ms ?? 110_000)
      if (c.change !== undefined) {
        value = value.replace(c.change[0], c.change[1])
      }
      const key = keyOf(c.key ?? fields.did)
      const answers = await collect(dht.put(key, Buffer.from(value), within()), 'PEER_RESPONSE')
      return { value, taken: answers.filter(({ messageType }) => messageType === 'PUT_VALUE').length }
    },
    async dht_get (c) {
      const found = await collect(dht.get(keyOf(c.did), within()), 'VALUE')
      const values = found.map(async ({ value, from }) => ({ from: from.toString(), ...await readRecord(value) }))
      return { values: await Promise.all(values) }
    },
    async dht_providers (c) {
      const digest = createHash('sha256').update(c.of).digest()
      const cid = CID.createV1(RAW, multihash(0x12, digest))
      const found = await collect(dht.findProviders(cid, within()), 'PROVIDER')
      const providers = found.flatMap(({ providers }) => providers).map(({ id, multiaddrs }) => ({
        peer_id: id.toString(), addrs: multiaddrs.map(String)
      }))
      return { providers }
    }
  }
}
