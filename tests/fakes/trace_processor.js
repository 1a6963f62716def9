// Runs Perfetto's trace_processor, built for a browser's worker, under Node: node trace_processor.js ENGINE REQUESTS REPLIES
// ENGINE is the folder with engine_bundle.js and its .wasm files. REQUESTS holds a stream of RPC messages; the stream of
// replies is written to REPLIES.
const fs = require("fs");
const path = require("path");

const [engine, requests, replies] = process.argv.slice(2);
Object.defineProperty(process, "type", { value: "renderer" }); // or the engine would refuse to run under Node
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = function () {};
globalThis.location = { href: "http://localhost/engine_bundle.js" };
globalThis.XMLHttpRequest = class {
  open(method, url) {
    this.file = path.join(engine, path.basename(url));
  }
  send() {
    const raw = fs.readFileSync(this.file);
    this.status = 200;
    this.response = raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length);
  }
};
globalThis.fetch = undefined;
console.warn = () => {};

const answered = [];
const port = { postMessage: (bytes) => answered.push(Buffer.from(bytes)) };
(0, eval)(fs.readFileSync(path.join(engine, "engine_bundle.js"), "utf8"));
setImmediate(() => {
  globalThis.onmessage({ data: port });
  port.onmessage({ data: new Uint8Array(fs.readFileSync(requests)) });
  fs.writeFileSync(replies, Buffer.concat(answered));
});
