import { type CallContext, isWithin, scopeOf, type TaskApi, type TaskView } from '@backend.ai/contract';
import type { LiveValues } from '@backend.ai/coordination';
import { AppError, type Clock, delay, newId } from '@backend.ai/core';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import { actorOf } from '../sessions/session-service.ts';

export interface TaskServiceOptions {
  readonly liveValues: LiveValues;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
}

export interface TaskProgress {
  readonly current: number;
  readonly total: number;
  readonly message: string;
}

export interface TaskWork {
  /** See `TaskView`. */
  readonly kind: string;
  /** Who may follow it. */
  readonly owner: { readonly userId: string; readonly domain: string };
  /** While it runs, whoever starts another one under this name gets this one. */
  readonly exclusive?: string | undefined;
  /** What whoever starts another one under the name is told, instead of getting this one. */
  readonly refusal?: (() => AppError) | undefined;
  /** Does it, and answers the result. The signal aborts when this manager ends. */
  readonly run: (tell: (progress: TaskProgress) => void, signal: AbortSignal) => Promise<unknown>;
}

interface StoredTask {
  readonly owner: TaskWork['owner'];
  readonly view: TaskView;
}

/** Progress is written at most this often, and looked at. */
const stepMs = 250;
/** One that runs says so this often, and is lost when it has not for `lostMs`. */
const aliveMs = 10_000;
const lostMs = 60_000;
/** How long the outcome can be asked for. */
const keptMs = 3_600_000;

/**
 * Work that goes on after the call that began it. How far it is stands among the live values, so that any manager can tell;
 * it ends with the manager that does it, and then it is for whoever wants it to begin again.
 */
export class TaskService implements TaskApi {
  readonly #options: TaskServiceOptions;
  readonly #stop = new AbortController();

  constructor(options: TaskServiceOptions) {
    this.#options = options;
  }

  /** Begins, and answers the id; that of the one that runs already when there is one. */
  async start(work: TaskWork): Promise<string> {
    const { liveValues, tasks } = this.#options;
    const id = newId();
    if (work.exclusive !== undefined && !(await liveValues.setIfAbsent(lockKey(work.exclusive), id, lostMs))) {
      if (work.refusal) throw work.refusal();
      const other = await liveValues.get(lockKey(work.exclusive));
      // It may have ended between the two.
      return other ?? (await this.start(work));
    }
    const view: TaskView = {
      ...{ id, kind: work.kind, state: 'running', current: 0, total: 0, message: '', result: null, error: null },
    };
    await this.#write({ owner: work.owner, view });
    tasks.start(`task ${work.kind}`, () => this.#run(work, view));
    return id;
  }

  async *watch({ taskId }: { taskId: string }, ctx: CallContext): AsyncIterable<TaskView> {
    const { liveValues, clock } = this.#options;
    const scope = scopeOf(actorOf(ctx), 'task:read');
    let last: StoredTask | undefined;
    for (let shown = ''; !ctx.signal?.aborted; ) {
      const text = await liveValues.get(taskKey(taskId));
      const task: StoredTask | undefined = text === null ? undefined : JSON.parse(text);
      if (!task || !isWithin(scope, task.owner)) {
        if (!last) throw new AppError('object-not-found', `There is no task ${taskId}, or no more.`);
        const error = new AppError('shutting-down', 'The manager that did it has ended.').toBody(ctx.requestId);
        yield { ...last.view, state: 'failed', error };
        return;
      }
      if (text !== shown) yield task.view;
      if (task.view.state !== 'running') return;
      shown = text!;
      last = task;
      await delay(clock, stepMs, ctx.signal);
    }
  }

  /** Ends all that run here. */
  stop(): void {
    this.#stop.abort();
  }

  async #run({ owner, exclusive, run }: TaskWork, begun: TaskView): Promise<void> {
    const { liveValues } = this.#options;
    let view = begun;
    const over = new AbortController();
    const tell = (progress: TaskProgress): void => {
      view = { ...view, ...progress };
    };
    const telling = this.#keepTelling(() => ({ owner, view }), exclusive, over.signal);
    try {
      const result = await run(tell, this.#stop.signal);
      view = { ...view, state: 'done', result };
    } catch (thrown) {
      const error = AppError.from(thrown);
      view = { ...view, state: 'failed', message: error.message, error: error.toBody() };
      if (error.code === 'internal') throw thrown;
    } finally {
      over.abort();
      await telling;
      // Whoever comes now begins anew.
      if (exclusive !== undefined) await liveValues.delete(lockKey(exclusive));
      await this.#write({ owner, view });
    }
  }

  /** Writes what has changed, and signs of life. A value that cannot be written now is written with the next one. */
  async #keepTelling(task: () => StoredTask, exclusive: string | undefined, signal: AbortSignal): Promise<void> {
    const { clock, liveValues } = this.#options;
    let written: TaskView | undefined;
    let writtenAt = clock.monotonic();
    while (!signal.aborted) {
      const isDue = clock.monotonic() - writtenAt >= aliveMs;
      if (task().view !== written || isDue) {
        written = task().view;
        try {
          await this.#write(task());
          if (exclusive !== undefined) await liveValues.expire(lockKey(exclusive), lostMs);
          writtenAt = clock.monotonic();
        } catch {
          written = undefined;
        }
      }
      await delay(clock, stepMs, signal);
    }
  }

  async #write(task: StoredTask): Promise<void> {
    const ttlMs = task.view.state === 'running' ? lostMs : keptMs;
    await this.#options.liveValues.set(taskKey(task.view.id), JSON.stringify(task), ttlMs);
  }
}

const taskKey = (id: string): string => `task:${id}`;
const lockKey = (name: string): string => `task-lock:${name}`;
