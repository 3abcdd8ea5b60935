import { readFileSync } from 'node:fs';
import { authHeaders } from '@backend.ai/client';
import { startApiServers } from './support/api-servers.ts';
import { throughput } from './support/http-load.ts';
const servers = await startApiServers(100);
const cpu = (pid: number) => { const f = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' '); return (Number(f[11]) + Number(f[12])) * 10_000; };
const next = (port: number) => { const url = new URL('/session/s-50', `http://127.0.0.1:${port}`); const now = Date.now();
  const texts = Array.from({ length: 1000 }, (_, i) => { const h = authHeaders(servers.credentials, { method: 'GET', url, now: new Date(now - i) }); return `GET ${url.pathname} HTTP/1.1\r\n${Object.entries({ host: url.host, ...h }).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`; }); let n = 0; return () => texts[n++ % 1000]!; };
const R: number[] = [], C: number[][] = [];
for (let i = -2; i < Number(process.argv[2] ?? 4); i++) {
  const one = async (s: { pid: number; port: number }) => { const n = next(s.port); const c = cpu(s.pid), t = performance.now(); const r = await throughput(s.port, n, { inFlight: 32, durationMs: 3000 }); return [r, (cpu(s.pid) - c) / (r * (performance.now() - t) / 1000)] as const; };
  const a = await one(servers.manager), b = await one(servers.peer);
  console.log('ours', a[0].toFixed(0), a[1].toFixed(0), 'peer', b[0].toFixed(0), b[1].toFixed(0), 'ratio', (a[0] / b[0]).toFixed(3), 'cpu', (a[1] / b[1]).toFixed(2));
}
await servers.stop();
