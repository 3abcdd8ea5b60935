import { dependencyState } from '@backend.ai/core';
import type { AgentTable } from './agent-table.ts';
import type { Cluster, Waiting } from './cluster.ts';
import { anywhere, lackingOf, Placing, shortageOf } from './placing.ts';
import type { WaitingReason } from './plan.ts';
import { violatedQuotas, withinQuotas } from './quota.ts';
import type { Shape } from './shape.ts';

/** Rules that concern a session alone, in the order in which they are asked. */
export const rules: ReadonlyArray<
  readonly [name: string, rule: (waiting: Waiting, cluster: Cluster, now: number) => WaitingReason | undefined]
> = [
  ['refusal', refusal],
  ['start moment', startMoment],
  ['dependencies', dependencies],
  ['quotas', quotas],
  ['suitable agents', suitableAgents],
];

/** The first rule that a session does not pass. */
export function obstacleBefore(waiting: Waiting, cluster: Cluster, now: number): WaitingReason | undefined {
  if (waiting.plain) return quotas(waiting, cluster);
  for (const [, rule] of rules) {
    const reason = rule(waiting, cluster, now);
    if (reason) return reason;
  }
  return undefined;
}

function refusal(
  { session: { notBefore, refusedBy = [] } }: Waiting,
  _: Cluster,
  now: number,
): WaitingReason | undefined {
  if (notBefore === undefined || notBefore <= now) return undefined;
  const nextTryAt = new Date(notBefore).toISOString();
  return { code: 'agent-refused', data: { nextTryAt, agents: [...refusedBy].sort() } };
}

function startMoment({ session: { type, startsAt } }: Waiting, _: Cluster, now: number): WaitingReason | undefined {
  if (type !== 'batch' || startsAt === undefined || startsAt <= now) return undefined;
  return { code: 'starts-later', data: { startsAt: new Date(startsAt).toISOString() } };
}

function dependencies({ session }: Waiting): WaitingReason | undefined {
  if (!session.dependencies) return undefined;
  const unmet = session.dependencies.filter((dependency) => dependencyState(dependency) !== 'met');
  if (unmet.length === 0) return undefined;
  const failed = unmet.filter((dependency) => dependencyState(dependency) === 'failed');
  return {
    code: failed.length > 0 ? 'dependency-failed' : 'dependency-unfinished',
    data: { sessions: (failed.length > 0 ? failed : unmet).map(({ sessionId }) => sessionId).sort() },
  };
}

function quotas({ session, scopes, total }: Waiting, { slots }: Cluster): WaitingReason | undefined {
  const isPrivate = session.private ?? false;
  if (withinQuotas(scopes, total, isPrivate)) return undefined;
  return { code: 'quota-exceeded', data: { violations: violatedQuotas(scopes, total, isPrivate, slots) } };
}

function suitableAgents({ shapes }: Waiting): WaitingReason | undefined {
  for (const { kind } of shapes) if (kind.obstacle) return kind.obstacle;
  return undefined;
}

/** Whether that was found for one of its requests already: then nobody has to look for room for it. */
export function knownToExceed({ shapes }: Waiting): boolean {
  for (const { exceeds } of shapes) if (exceeds) return true;
  return false;
}

/** Whether the session would have no room even with nothing running: it then holds back nobody. */
export function exceedsAgents(waiting: Waiting, { table }: Cluster): WaitingReason | undefined {
  const { shapes, group } = waiting;
  for (const shape of shapes) {
    // Once for all that ask the same: each of them is asked in every pass, among all agents.
    if (shape.exceeds === undefined) {
      const fits = (agent: number): boolean => table.fitsEmpty(agent, shape.slots);
      const possible = shape.kernels <= group.kernelLimit && shape.kind.agents.some(fits);
      shape.exceeds = possible ? null : exceeding(shape, table);
    }
    if (shape.exceeds) return shape.exceeds;
  }
  if (shapes.length === 1) return undefined;
  const failed = table.withNothingHeld(() => {
    const choices = new Placing(table).place(waiting, anywhere);
    return 'failed' in choices ? choices : undefined;
  });
  if (!failed) return undefined;
  return failed.apart ? shortageOf(waiting, failed, table) : exceeding(failed.failed, table);
}

function exceeding(shape: Shape, table: AgentTable): WaitingReason {
  return { code: 'exceeds-agents', data: { lacking: lackingOf(shape, table, table.capacity) } };
}
