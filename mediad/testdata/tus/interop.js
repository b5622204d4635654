// Uploads with tus-js-client, as a web page or a Node program would. The Go test that runs it, tusjs_test.go, is the server; it names
// the scenario and checks what came of it. Each line on standard output is JSON: a step that the test waits for, or the result.
const fs = require('fs')
const path = require('path')
const tus = require('tus-js-client')

const [scenario, endpoint, grant, file] = process.argv.slice(2)
const size = fs.statSync(file).size
const requests = []
let blob = ''

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

function options(more) {
  return {
    endpoint: `${endpoint}?grant=${grant}`,
    chunkSize: 256 * 1024,
    retryDelays: Array(100).fill(100),
    metadata: { filename: 'käse.jpg', filetype: 'image/jpeg' },
    urlStorage: new tus.FileUrlStorage(path.join(path.dirname(file), 'urls.json')),
    removeFingerprintOnSuccess: true,
    fingerprint: () => Promise.resolve('linecard ' + file),
    onAfterResponse: (req, res) => {
      requests.push({ method: req.getMethod(), status: res.getStatus(), offset: req.getHeader('Upload-Offset') ?? '' })
      blob = res.getHeader('Linecard-Blob') ?? blob
    },
    onChunkComplete: (_, sent) => say({ step: 'chunk', sent }),
    ...more,
  }
}

function upload(more) {
  return new Promise((resolve, reject) => {
    const u = new tus.Upload(fs.createReadStream(file), options({ onSuccess: () => resolve(u), onError: reject, uploadSize: size, ...more }))
    u.findPreviousUploads().then((before) => {
      if (before.length > 0) u.resumeFromPreviousUpload(before[0])
      u.start()
    }, reject)
  })
}

// half begins an upload and stops it after its first chunk; terminate: for good.
function half(terminate) {
  return new Promise((resolve, reject) => {
    const u = new tus.Upload(fs.createReadStream(file), options({
      uploadSize: size,
      onError: reject,
      onChunkComplete: () => u.abort(terminate).then(() => resolve(u), reject),
    }))
    u.start()
  })
}

const scenarios = {
  'pre-signed': () => upload({}),
  header: () => upload({ endpoint, headers: { Authorization: `Bearer ${grant}` } }),
  'with creation': () => upload({ uploadDataDuringCreation: true }),
  override: () => upload({ overridePatchMethod: true }),
  whole: () => upload({ chunkSize: Infinity }),
  resume: () => half(false).then(() => upload({})),
  terminate: () => half(true).then((u) => say({ step: 'terminated', url: u.url })),
  restart: () => upload({}),
}

scenarios[scenario]().then(
  () => say({ step: 'end', blob, requests }),
  (err) => { say({ step: 'failed', error: String(err) }); process.exit(1) },
)
