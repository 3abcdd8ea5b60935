import { toAppError } from './rpc.ts';

interface Handlers<T> {
  readonly onData: (value: T) => void;
  readonly onError: (error: unknown) => void;
  readonly onComplete: () => void;
}

/** What a subscription tells, until it is over or the loop is left. @throws AppError that ended it */
export async function* subscribed<T>(
  subscribe: (handlers: Handlers<T>) => { unsubscribe(): void },
): AsyncGenerator<T, void, undefined> {
  const values: T[] = [];
  let isOver = false;
  let failure: unknown;
  let wake = (): void => {};
  const end = (): void => {
    isOver = true;
    wake();
  };
  const subscription = subscribe({
    onData: (value) => {
      values.push(value);
      wake();
    },
    onError: (error) => {
      failure = error;
      end();
    },
    onComplete: end,
  });
  try {
    for (;;) {
      if (values.length > 0) yield values.shift()!;
      else if (isOver) break;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  } finally {
    subscription.unsubscribe();
  }
  if (failure !== undefined) throw toAppError(failure);
}
