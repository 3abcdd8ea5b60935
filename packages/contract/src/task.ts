import type { ErrorBody } from '@backend.ai/core';
import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';

/** Work that goes on after the call that began it, and tells how far it is. */

export const taskSchema = z.strictObject({ taskId: z.uuid() });

export type TaskState = 'running' | 'done' | 'failed';

export interface TaskView {
  readonly id: string;
  /** Which work: `rescan`, `preload`, `commit`. */
  readonly kind: string;
  readonly state: TaskState;
  /** Of `total` units; a total of 0 is not known yet. */
  readonly current: number;
  readonly total: number;
  /** For people: what is being done now, or what came of it. */
  readonly message: string;
  /** Once it is done, of the form that the work has. */
  readonly result: unknown;
  readonly error: ErrorBody | null;
}

export interface TaskApi {
  /** The task now and after each change, until it is over. @throws AppError `object-not-found`, also a while after its end */
  watch(input: { taskId: string }, ctx: CallContext): AsyncIterable<TaskView>;
}

export function createTaskRouter(tasks: TaskApi) {
  return router({
    watch: procedureFor('task:read')
      .input(taskSchema)
      .subscription(async function* ({ input, ctx }) {
        yield* tasks.watch(input, ctx);
      }),
  });
}
