// Photographs to a splitrt server, from the .proto file alone:
//   node infer.js 127.0.0.1:7070 photos street.jpg [another.jpg ..]
//
// A photograph goes as JPEG to the undivided model (Codec JPEG), so this device computes nothing. Prints one line of
// JSON a photograph: the class's number, its probability and the server's own milliseconds.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTOS = path.join(__dirname, "../../../protos");
const PROTOCOL = 1;
const DEADLINE_MS = 2000;
const CODEC_JPEG = 3;
const FLOAT32 = 1; // of Tensor.dtype

// CRC-32C (Castagnoli), bit by bit reflected.
const TABLE = new Uint32Array(256).map((_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte >>> 0;
});

function crc32c(...buffers) {
  let crc = 0xffffffff;
  for (const buffer of buffers) for (const byte of buffer) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

// What the checksum covers before the payload: seq, width, bits, codec, number of the message, back; little-endian.
function header(frame) {
  const bytes = Buffer.alloc(10);
  bytes.writeUInt32LE(frame.seq, 0);
  bytes.writeUInt16LE(frame.width, 4);
  bytes.writeUInt8(frame.bits, 6);
  bytes.writeUInt8(frame.codec, 7);
  return bytes;
}

function frameOf(seq, jpeg, info) {
  const frame = { seq, width: 0, bits: 0, codec: CODEC_JPEG, deadlineMs: DEADLINE_MS, payload: jpeg };
  frame.tables = info.tablesDigest.readUInt32LE(0);
  frame.crc32c = crc32c(header(frame), jpeg);
  return frame;
}

function softmax(logits) {
  const most = Math.max(...logits);
  const weights = logits.map((one) => Math.exp(one - most));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((one) => one / sum);
}

function read(result) {
  if (result.error) return { seq: result.seq, error: result.error.code, detail: result.error.detail };
  const [tensor] = result.outputs;
  if (tensor.dtype !== FLOAT32) throw new Error(`outputs must be float32, got dtype ${tensor.dtype}`);
  const logits = Array.from({ length: tensor.data.length / 4 }, (_, i) => tensor.data.readFloatLE(4 * i));
  const scores = softmax(logits);
  const best = scores.indexOf(Math.max(...scores));
  return { seq: result.seq, class: best, score: scores[best], server_ms: (result.queueUs + result.decodeUs + result.tailUs) / 1e3 };
}

function main([address, bundle, ...photographs]) {
  if (!photographs.length) throw new Error("usage: node infer.js HOST:PORT BUNDLE PHOTOGRAPH ..");
  const loaded = protoLoader.loadSync("splitrt/rpc/v1/split.proto", {
    includeDirs: [PROTOS], longs: Number, enums: String, defaults: true, oneofs: true,
  });
  const { Split } = grpc.loadPackageDefinition(loaded).splitrt.rpc.v1;
  const client = new Split(address, grpc.credentials.createInsecure());
  client.Describe({}, { deadline: Date.now() + 5000 }, (error, described) => {
    if (error) throw error;
    const info = described.bundles.find((one) => one.name === bundle);
    if (!info) throw new Error(`bundle must be one of ${described.bundles.map((one) => one.name)}, got ${bundle}`);
    const stream = client.Infer();
    let unanswered = photographs.length;
    stream.on("error", (problem) => { throw problem; });
    stream.on("data", (message) => {
      if (message.body !== "result") return; // welcome, drain
      console.log(JSON.stringify(read(message.result)));
      if (--unanswered === 0) { stream.end(); client.close(); }
    });
    const { version, bundleDigest, tablesDigest } = info;
    stream.write({ hello: { protocol: PROTOCOL, bundle, version, bundleDigest, tablesDigest, sessionEpoch: 1 } });
    photographs.forEach((file, i) => stream.write({ frame: frameOf(i + 1, fs.readFileSync(file), info) }));
  });
}

main(process.argv.slice(2));
