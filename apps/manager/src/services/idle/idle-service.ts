import type { IdleCheckView } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type { IdleRepository, RunningSessionRecord } from '../../repositories/idle.ts';
import type { KernelStatistics } from '../statistics/kernel-statistics.ts';
import type { IdleSettings } from './idle-settings.ts';
import { judgeIdleness } from './judge.ts';
import type { JudgedSession } from './judged-session.ts';
import type { SessionActivity } from './session-activity.ts';

export interface IdleServiceOptions {
  readonly rows: IdleRepository;
  readonly statistics: KernelStatistics;
  readonly activity: SessionActivity;
  readonly settings: () => IdleSettings;
  readonly clock: Clock;
}

export interface IdleJudgement {
  readonly session: RunningSessionRecord;
  readonly checks: IdleCheckView[];
}

/** So many sessions are judged at once: each of them asks the live values. */
const portion = 200;

/** Gathers what is known of running sessions and has it judged. */
export class IdleService {
  readonly #options: IdleServiceOptions;

  constructor(options: IdleServiceOptions) {
    this.#options = options;
  }

  /** Of everything that runs, if anything is checked at all. A session seen for the first time begins to count. */
  async judgeAll(): Promise<IdleJudgement[]> {
    const { rows, activity, settings } = this.#options;
    const running = await rows.running();
    const { enabled } = settings();
    const concerned = enabled.size > 0 ? running : running.filter(({ maxLifetimeS }) => maxLifetimeS > 0);
    const judgements: IdleJudgement[] = [];
    for (let at = 0; at < concerned.length; at += portion) {
      const some = concerned.slice(at, at + portion).map(async (session) => {
        if (enabled.has('network_timeout')) await activity.startCounting(session.id);
        return { session, checks: await this.check(session) };
      });
      judgements.push(...(await Promise.all(some)));
    }
    return judgements;
  }

  /** What each checker would say now; nothing happens by it. */
  async check(session: RunningSessionRecord): Promise<IdleCheckView[]> {
    const { settings, clock } = this.#options;
    const current = settings();
    return judgeIdleness(await this.#gather(session, current), current, clock.now());
  }

  async #gather(session: RunningSessionRecord, { enabled }: IdleSettings): Promise<JudgedSession> {
    const { statistics, activity } = this.#options;
    const measured = enabled.has('utilization');
    const [lastAccessMs, kernels] = await Promise.all([
      activity.lastAccess(session.id),
      Promise.all(
        session.kernels.map(async ({ id, slots }) => ({
          slots: Object.fromEntries(Object.entries(slots).map(([slot, amount]) => [slot, Number(amount)])),
          use: measured ? await statistics.find(id) : undefined,
        })),
      ),
    ]);
    return {
      type: session.type,
      createdAtMs: session.createdAtMs,
      startedAtMs: session.startedAtMs,
      paused: session.paused,
      resumedAtMs: session.resumedAtMs ?? undefined,
      userCreatedAtMs: session.userCreatedAtMs ?? undefined,
      lastAccessMs,
      idleTimeoutMs: session.idleTimeoutS === null ? undefined : session.idleTimeoutS * 1_000,
      maxLifetimeMs: session.maxLifetimeS * 1_000,
      kernels,
    };
  }
}
