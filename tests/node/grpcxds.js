// Calls a mesh service as a proxyless client: gRPC resolves xds:/// targets itself. What it reads and writes is
// what tests/go/grpcxds reads and writes.
'use strict';
const path = require('path');
const readline = require('readline');
const modules = process.argv[2];
const grpc = require(path.join(modules, '@grpc/grpc-js'));
require(path.join(modules, '@grpc/grpc-js-xds')).register();

const raw = { to: (bytes) => bytes, from: (bytes) => bytes };
const clients = new Map();

function client(target) {
  if (!clients.has(target)) clients.set(target, new grpc.Client(target, grpc.credentials.createInsecure()));
  return clients.get(target);
}

function once(r) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(r.metadata)) metadata.set(name, value);
  return new Promise((resolve) => {
    let by;
    const options = { deadline: Date.now() + r.deadline * 1000 };
    const call = client(r.target).makeUnaryRequest(r.method, raw.to, raw.from, Buffer.from('{}'), metadata, options,
      (error) => resolve(error ? { code: error.code, details: error.details } : { code: 0, by }));
    call.on('metadata', (head) => { by = head.get('x-backend')[0]; });
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const r = { deadline: 20, ...JSON.parse(line) };
    const answer = { code: 0, details: '', by: {} };
    for (let i = 0; i < Math.max(r.n, 1); i++) {
      const one = await once(r);
      if (one.code !== 0) {
        Object.assign(answer, one);
        break;
      }
      answer.by[one.by] = (answer.by[one.by] || 0) + 1;
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
  process.exit(0);
}

main();
