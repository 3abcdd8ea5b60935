import { request } from 'node:http';

/** Socket of the engine of the vitest project `docker`: that of DOCKER_HOST, or the machine's. */
export function engineSocket(environment: NodeJS.ProcessEnv = process.env): string {
  return /^unix:\/\/(\/.+)$/.exec(environment.DOCKER_HOST ?? '')?.[1] ?? '/var/run/docker.sock';
}

/** What tests left in an engine, by ids. */
export interface EngineRemains {
  readonly containers: readonly string[];
  readonly networks: readonly string[];
}

/** Containers and networks with a label, `name` or `name=value`: those that run and those that ended. */
export async function engineRemains(label: string): Promise<EngineRemains> {
  const filters = `filters=${encodeURIComponent(JSON.stringify({ label: [label] }))}`;
  const [containers, networks] = await Promise.all([
    callEngine('GET', `/containers/json?all=1&${filters}`),
    callEngine('GET', `/networks?${filters}`),
  ]);
  const ids = (found: unknown): string[] => (found as Array<{ Id: string }>).map(({ Id }) => Id);
  return { containers: ids(containers), networks: ids(networks) };
}

/** Removes them, running or not, and answers what there was: a test that tidies up should find nothing. */
export async function removeEngineRemains(label: string): Promise<EngineRemains> {
  const remains = await engineRemains(label);
  await Promise.all(remains.containers.map((id) => callEngine('DELETE', `/containers/${id}?force=1&v=1`)));
  await Promise.all(remains.networks.map((id) => callEngine('DELETE', `/networks/${id}`)));
  return remains;
}

/** Removes images that a test has made, with all of their names given. */
export async function removeImages(...references: readonly string[]): Promise<void> {
  await Promise.all(references.map((name) => callEngine('DELETE', `/images/${name}?force=1`)));
}

/** What is gone already counts as removed. */
function callEngine(method: 'GET' | 'DELETE', path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: engineSocket(), method, path }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.once('error', reject);
      answer.once('end', () => {
        const body = Buffer.concat(chunks).toString();
        if (answer.statusCode! >= 400 && answer.statusCode !== 404) reject(new Error(`${method} ${path}: ${body}`));
        else resolve(method === 'GET' ? JSON.parse(body) : undefined);
      });
    });
    call.once('error', reject);
    call.end();
  });
}
