import type { AdminHandlers, DependencyChecks, DependencyHealth } from '@backend.ai/runtime';
import { serialiseSnapshot } from '@backend.ai/scheduler';
import type { Manager } from './manager.ts';
import { type Operator, operatorMethods } from './operator.ts';
import { storeNames } from './store-names.ts';

/** What a manager knows of itself, whatever servers are away. */
export interface ManagerFacts {
  readonly managerId: string;
  readonly version: string;
  readonly startedAt: string;
  /** One process holds the whole cluster. */
  readonly embedded: boolean;
  /** Of its term while this manager leads, else null. */
  readonly epoch: number | null;
  /** It has been revoked, and leads no more. */
  readonly revoked: boolean;
  /** URL of the public API. */
  readonly api: string | null;
  /** Address that agents come to. */
  readonly rpc: string | null;
  /** Agents that are connected to this manager. */
  readonly connectedAgents: readonly string[];
}

/** What the database has of the whole cluster. */
export interface ClusterCounts {
  /** By status. */
  readonly agents: Readonly<Record<string, number>>;
  /** Live ones, by status. */
  readonly sessions: Readonly<Record<string, number>>;
}

/** What a manager tells operators on its machine: `mgr status`. Counts are null while the database does not answer. */
export interface ManagerStatusView extends ManagerFacts {
  readonly pid: number;
  readonly residentBytes: number;
  readonly agents: ClusterCounts['agents'] | null;
  readonly sessions: ClusterCounts['sessions'] | null;
  /** What it cannot work without, and does not work now. */
  readonly away: readonly DependencyHealth[];
}

const noCounts = { agents: null, sessions: null };

/**
 * Handlers of every manager's admin socket.
 * @param checks Of what it cannot work without; none where the manager and all that it needs are one process
 */
export function managerHandlers({ services }: Pick<Manager, 'services'>, checks?: DependencyChecks): AdminHandlers {
  const status = async (): Promise<ManagerStatusView> => {
    const health = (await checks?.now()) ?? [];
    const away = health.filter(({ healthy }) => !healthy);
    const counts = away.some(({ name }) => name === storeNames.database) ? noCounts : await services.counts();
    return { ...services.facts(), ...counts, pid: process.pid, residentBytes: process.memoryUsage.rss(), away };
  };
  /** All that the scheduler decides upon, as text: ids, amounts and limits, no secrets. */
  const schedulerSnapshot = async (): Promise<{ text: string }> => ({
    text: serialiseSnapshot(await services.schedulerSnapshot()),
  });
  return { status, schedulerSnapshot };
}

/** Handlers of an operator's commands, where the stores have no other way in than this process. */
export function operatorHandlers(operator: Operator): AdminHandlers {
  const methods = operator as unknown as Record<string, (params: unknown) => unknown>;
  return Object.fromEntries(operatorMethods.map((name) => [name, (params) => methods[name]?.(params)]));
}
