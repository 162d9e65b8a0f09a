// What js-libp2p takes from Node 22 and Node 20 does not have. Imported before anything else.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}
