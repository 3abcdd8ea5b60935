import type { AdminHandlers } from '@backend.ai/runtime';
import { serialiseSnapshot } from '@backend.ai/scheduler';
import type { Manager } from './manager.ts';
import { type Operator, operatorMethods } from './operator.ts';

/** What a manager tells operators on its machine: `mgr status`. */
export interface ManagerStatusView {
  readonly managerId: string;
  readonly pid: number;
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
  /** Of the whole cluster, by status. */
  readonly agents: Readonly<Record<string, number>>;
  /** Live sessions of the whole cluster, by status. */
  readonly sessions: Readonly<Record<string, number>>;
  readonly residentBytes: number;
}

/** Handlers of every manager's admin socket. */
export function managerHandlers(manager: Manager): AdminHandlers {
  const status = async (): Promise<ManagerStatusView> => ({
    ...(await manager.services.status()),
    pid: process.pid,
    residentBytes: process.memoryUsage.rss(),
  });
  /** All that the scheduler decides upon, as text: ids, amounts and limits, no secrets. */
  const schedulerSnapshot = async (): Promise<{ text: string }> => ({
    text: serialiseSnapshot(await manager.services.schedulerSnapshot()),
  });
  return { status, schedulerSnapshot };
}

/** Handlers of an operator's commands, where the stores have no other way in than this process. */
export function operatorHandlers(operator: Operator): AdminHandlers {
  const methods = operator as unknown as Record<string, (params: unknown) => unknown>;
  return Object.fromEntries(operatorMethods.map((name) => [name, (params) => methods[name]?.(params)]));
}
