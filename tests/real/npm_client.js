// Exec and port-forward by npm's spdy-transport, an implementation of SPDY/3.1 that has nothing in common with ours:
//
//     node npm_client.js EXEC-URL FORWARD-URL PORT
//
// What the process and the port have answered is printed as JSON; whatever goes wrong ends it with an error.
'use strict'
const http = require('http')
const { connection } = require('spdy-transport')

// Upgrades, as Kubernetes' clients ask for it.
function connect (url, protocol) {
  return new Promise((resolve, reject) => {
    const headers = {
      Connection: 'Upgrade', Upgrade: 'SPDY/3.1', 'X-Stream-Protocol-Version': protocol, 'Content-Length': 0
    }
    const request = http.request(url, { method: 'POST', headers })
    request.on('error', reject)
    request.on('response', answer => reject(new Error(`no upgrade: ${answer.statusCode}`)))
    request.on('upgrade', (answer, socket) => {
      if (answer.headers['x-stream-protocol-version'] !== protocol) return reject(new Error('another protocol'))
      const session = connection.create(socket, { protocol: 'spdy', isServer: false })
      session.start(3.1)
      session.on('error', reject)
      resolve(session)
    })
    request.end()
  })
}

// Opens a stream, and gathers what comes on it until its end. Opened at once, two may be sent in the wrong order.
async function open (session, headers) {
  const stream = await new Promise((resolve, reject) => {
    const options = { method: 'POST', path: '/', host: 'localhost', headers }
    session.request(options, (error, stream) => error ? reject(error) : resolve(stream))
  })
  // Kubernetes' servers reply to a stream without the :status of HTTP
  stream._spdyState.needResponse = false
  const pieces = []
  stream.on('data', piece => pieces.push(piece))
  stream.ended = new Promise((resolve, reject) => {
    stream.on('end', () => resolve(Buffer.concat(pieces).toString()))
    stream.on('error', reject)
  })
  return stream
}

async function exec (url, input) {
  const session = await connect(url, 'v4.channel.k8s.io')
  const error = await open(session, { streamtype: 'error' })
  const stdin = await open(session, { streamtype: 'stdin' })
  const stdout = await open(session, { streamtype: 'stdout' })
  stdin.end(input)
  const [status, output] = await Promise.all([error.ended, stdout.ended])
  session.end()
  return { output, status: JSON.parse(status) }
}

async function forward (url, port, input) {
  const session = await connect(url, 'portforward.k8s.io')
  const error = await open(session, { streamtype: 'error', port, requestid: '0' })
  const data = await open(session, { streamtype: 'data', port, requestid: '0' })
  error.end()
  data.end(input)
  const [failure, output] = await Promise.all([error.ended, data.ended])
  session.end()
  return { output, failure }
}

async function main ([execUrl, forwardUrl, port]) {
  const input = 'said by npm\n'
  return { exec: await exec(execUrl, input), forward: await forward(forwardUrl, port, input) }
}

main(process.argv.slice(2)).then(
  told => process.stdout.write(JSON.stringify(told), () => process.exit(0)),
  error => { console.error(error); process.exit(1) }
)
