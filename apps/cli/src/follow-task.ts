import type { CliContext } from '@backend.ai/cli-kit';
import { AppError, type Client, type TaskView } from '@backend.ai/client';
import { showProgress } from './files/progress.ts';

/** Watches work that a call began, with a bar at a terminal. Answers how it ended, which may be a failure. */
export async function followTask(
  context: CliContext,
  client: Pick<Client, 'tasks'>,
  taskId: string,
  { name, unit }: { readonly name: string; readonly unit: 'bytes' | 'count' },
): Promise<TaskView> {
  const progress = await showProgress(context, name, unit);
  let last: TaskView | undefined;
  try {
    for await (const view of client.tasks.watch(taskId)) {
      if (view.total > 0) progress.onProgress?.(view.current, view.total);
      last = view;
    }
  } finally {
    progress.stop();
  }
  if (last) return last;
  throw new AppError('object-not-found', `There is no task ${taskId}.`);
}
