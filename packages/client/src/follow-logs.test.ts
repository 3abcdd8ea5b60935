import { expect, it } from 'vitest';
import { followLogs } from './follow-logs.ts';
import type { Rpc } from './rpc.ts';

it('ends its subscription when its reader takes no more', async () => {
  let open = 0;
  const subscribe = (_input: unknown, { onData }: { onData: (piece: object) => void }) => {
    open += 1;
    onData({ id: '1', data: { text: 'a', missed: false } });
    return { unsubscribe: () => (open -= 1) };
  };
  const rpc = { session: { followLogs: { subscribe } } } as unknown as Rpc;
  for await (const { text } of followLogs(rpc, 's', {})) {
    expect([text, open]).toEqual(['a', 1]);
    break;
  }
  expect(open).toBe(0);
});
