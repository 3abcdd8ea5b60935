import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import { runCommand } from './support/command.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
  await cluster.json(['session', 'create', '--name', 'prisoner', 'python']);
  await cluster.json(['session', 'create', '--name', 'neighbour', 'python']);
  await cluster.json(['session', 'exec', 'neighbour', '-c', 'open("secret.txt", "w").write("neighbour-secret")']);
});
afterAll(() => cluster.stop());

async function inside(code: string): Promise<string> {
  const document = await cluster.json<{ stdout: string; stderr: string }>(['session', 'exec', 'prisoner', '-c', code]);
  return document.stdout;
}

/** Tries to read a path and everything below it; prints what could be read. */
const readAll = (paths: readonly string[]): string => `
import os
for root in ${JSON.stringify(paths)}:
    for path in [root] + [os.path.join(d, f) for d, _, fs in os.walk(root) for f in fs]:
        try:
            print(path, len(open(path, "rb").read()))
        except OSError:
            pass
`;

test('a session cannot read the cluster database, keys, credentials or log', async () => {
  expect(existsSync(join(cluster.dataDir, 'keys'))).toBe(true);
  expect(await inside(readAll([cluster.dataDir]))).toBe('');
});

test("a session cannot read another session's files, nor see its processes", async () => {
  const found = await inside(`
import os, subprocess
print(subprocess.run(["sh", "-c", "grep -rl neighbour-secret /home /tmp /run /var /root 2>/dev/null"], capture_output=True, text=True).stdout)
print(sum(1 for name in os.listdir("/proc") if name.isdigit()) < 10)
`);
  expect(found.trim()).toBe('True');
});

test('a session has no capability, cannot gain any, and cannot write outside of its home and /tmp', async () => {
  const found = await inside(`
status = open("/proc/self/status").read()
fields = dict(line.split(":\\t", 1) for line in status.splitlines() if ":\\t" in line)
print(int(fields["CapEff"], 16), int(fields["CapPrm"], 16), fields["NoNewPrivs"].strip())
import os
writable = [path for path in ["/", "/etc", "/usr", "/usr/bin", "/opt", "/run", "/home"] if os.access(path, os.W_OK)]
print(writable)
`);
  expect(found).toBe('0 0 1\n[]\n');
});

test('the environment of the cluster process does not reach a session', async () => {
  const found = await inside(
    'import os; print([k for k in os.environ if "SECRET" in k or k in ("BACKEND_DATA_DIR", "SSH_AUTH_SOCK")])',
  );
  expect(found).toBe('[]\n');
});

test('the isolation reached is told by ag status and in the log', async () => {
  const status = await cluster.json<{ isolation: { sandbox: string } }>(['ag', 'status']);
  expect(['bubblewrap', 'unshare']).toContain(status.isolation.sandbox);
  const record = cluster.logs().find((entry) => entry.component === 'agent' && 'isolation' in entry);
  expect(JSON.stringify(record)).toContain(status.isolation.sandbox);
});

test('secrets are neither in the log nor in the process list', async () => {
  const { secretKey } = cluster.credentials;
  expect(readFileSync(join(cluster.dataDir, 'logs', 'cluster.log'), 'utf8')).not.toContain(secretKey);
  const list = await runCommand('sh', ['-c', 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " "']);
  expect(list.stdout).not.toContain(secretKey);
});
