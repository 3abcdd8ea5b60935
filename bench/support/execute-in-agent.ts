import { ensureRequestId } from '@backend.ai/telemetry';
import type { Cluster } from '../../apps/standalone/src/index.ts';

/** How a piece of code is executed in these benchmarks, wherever that happens. */
export const executeCall = { mode: 'query', flushMs: 0, holdMs: 30_000 } as const;

/** One execution as the manager would order it, without the manager; answers what it printed. */
export async function executeInAgent(cluster: Cluster, kernelId: string, code: string): Promise<string> {
  const context = { requestId: 'bench', actor: { kind: 'anonymous' }, headers: {}, signal: undefined };
  const result = await ensureRequestId(() =>
    cluster.agent.service.execute({ ...executeCall, kernelId, code, options: {}, timeoutMs: 0 }, context as never),
  );
  return consoleText(result);
}

export function consoleText(result: { readonly console: ReadonlyArray<readonly [string, unknown]> }): string {
  return result.console.map(([, data]) => String(data)).join('');
}
