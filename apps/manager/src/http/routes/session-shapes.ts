import type { RunResult, SessionDetailsView, SessionHistoryEntry } from '@backend.ai/contract';
import { occupyingStatuses, type SessionStatus } from '@backend.ai/core';
import { z } from 'zod';

/** Our views in the words of the official REST API. */

/** States that official clients do not know, by those that they do. */
const publicNames: Partial<Readonly<Record<SessionStatus, SessionStatus>>> = {
  DEPRIORITIZING: 'PENDING',
  RESERVED: 'SCHEDULED',
  PREPARED: 'PREPARING',
  CREATING: 'PREPARING',
  PREEMPTED: 'TERMINATING',
  RESCHEDULING: 'RESTARTING',
};

export function publicStatus(status: SessionStatus): string {
  return publicNames[status] ?? status;
}

/** `GET /session/{s}`. Maps travel as JSON text. What this version does not know is null. */
export function sessionInfo(view: SessionDetailsView, nowMs: number): Record<string, unknown> {
  const requested = JSON.stringify(view.requested);
  const occupied = occupyingStatuses.includes(view.status) ? requested : '{}';
  const endMs = view.terminatedAt === null ? nowMs : Date.parse(view.terminatedAt);
  return {
    domainName: view.domain,
    groupId: view.projectId,
    groupName: view.project,
    userId: view.userId,
    lang: view.image,
    image: view.image,
    architecture: view.architecture,
    registry: view.image.includes('/') ? view.image.slice(0, view.image.indexOf('/')) : null,
    tag: view.tag,
    containerId: view.kernels.find((kernel) => kernel.role === 'main')?.id ?? null,
    occupiedSlots: occupied,
    occupyingSlots: occupied,
    requestedSlots: requested,
    occupiedShares: '{}',
    environ: JSON.stringify(view.environ),
    resourceOpts: JSON.stringify(view.options.shmem === null ? {} : { shmem: view.options.shmem }),
    status: publicStatus(view.status),
    statusInfo: view.reason.code,
    statusData: { reason: view.reason },
    age: Math.max(0, endMs - Date.parse(view.createdAt)),
    creationTime: view.createdAt,
    terminationTime: view.terminatedAt,
    numQueriesExecuted: null,
  };
}

/** When each state was entered (last). */
export function statusHistory(entries: readonly SessionHistoryEntry[]): Record<string, string> {
  return Object.fromEntries(entries.map((entry) => [entry.to.toLowerCase(), entry.at]));
}

const stepTimeout = z.number().min(0).max(2_147_483).nullish();

/** `options` of batch mode. */
export const batchOptionsSchema = z
  .object({
    clean: z.string().nullish(),
    build: z.string().nullish(),
    exec: z.string().nullish(),
    buildLog: z.boolean().nullish(),
    /** Seconds that each step may last. */
    timeouts: z.object({ clean: stepTimeout, build: stepTimeout, exec: stepTimeout }).nullish(),
  })
  .transform(({ clean, build, exec, buildLog, timeouts }) => ({
    ...{ clean, build, exec },
    ...(buildLog === false ? { buildLog } : {}),
    ...(timeouts ? { timeoutsMs: inMilliseconds(timeouts) } : {}),
  }));

function inMilliseconds(timeouts: Readonly<Record<string, number | null | undefined>>): Record<string, number> {
  const set = Object.entries(timeouts).filter((entry): entry is [string, number] => Boolean(entry[1]));
  return Object.fromEntries(set.map(([step, seconds]) => [step, Math.max(1, Math.round(seconds * 1000))]));
}

/** The answer to one step of a run. */
export function runAnswer(result: RunResult): Record<string, unknown> {
  return {
    runId: result.runId,
    status: result.status,
    exitCode: result.exitCode,
    options: result.options,
    files: [],
    console: result.console.map(([kind, data]) => (kind === 'svg' ? ['media', ['image/svg+xml', data]] : [kind, data])),
    ...(result.notices.length > 0 ? { notices: result.notices } : {}),
  };
}

/** What clients expect when the kernel is gone in the middle of a run. */
export function kernelGone(runId: string): Record<string, unknown> {
  return { runId, status: 'finished', exitCode: 130, options: {}, files: [], console: [] };
}
