import type { IdleCheckView, SessionIdleView, UserActor } from '@backend.ai/contract';
import { AppError, type Clock } from '@backend.ai/core';
import type { IdleRepository, RunningSessionRecord } from '../../repositories/idle.ts';
import type { SessionService } from '../sessions/session-service.ts';
import type { KernelStatistics } from '../statistics/kernel-statistics.ts';
import type { IdleSettings } from './idle-settings.ts';
import { judgeIdleness } from './judge.ts';
import type { JudgedSession } from './judged-session.ts';
import type { SessionActivity } from './session-activity.ts';

export interface IdleServiceOptions {
  readonly rows: IdleRepository;
  readonly sessions: SessionService;
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

  /** What would become of the session if it were judged now. @throws AppError `session-not-found`, `session-not-running` */
  async dryRun(ref: string, actor: UserActor): Promise<SessionIdleView> {
    const { id, name, status } = await this.#options.sessions.find(ref, actor);
    const judgement = await this.#findJudgement(id);
    if (!judgement) {
      throw new AppError('session-not-running', `The session "${name}" is ${status}: only running ones are checked.`, {
        data: { sessionId: id, status },
      });
    }
    return { sessionId: id, name, checks: judgement.checks };
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
        return await this.#judge(session);
      });
      judgements.push(...(await Promise.all(some)));
    }
    return judgements;
  }

  async #findJudgement(sessionId: string): Promise<IdleJudgement | undefined> {
    const session = await this.#options.rows.findRunning(sessionId);
    return session && (await this.#judge(session));
  }

  async #judge(session: RunningSessionRecord): Promise<IdleJudgement> {
    const { settings, clock } = this.#options;
    const current = settings();
    return { session, checks: judgeIdleness(await this.#gather(session, current), current, clock.now()) };
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
